"""Data sets: keys and queries with the results of exact search, made once and kept on disk."""

from bench.index.data.clustered import generated as generated
from bench.index.data.sets import MAKERS as MAKERS
from bench.index.data.sets import DataSet as DataSet
from bench.index.data.sets import K as K
from bench.index.data.sets import prepare as prepare
