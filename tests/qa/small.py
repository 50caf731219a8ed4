"""Settings of a model that trains in a second."""

SIZES = {
    "table_bits": 11,
    "name_features": 32,
    "relation_features": 16,
    "word_bits": 10,
    "word_features": 8,
    "hidden": 8,
}
TRAINING = {"epochs": 3, "batch_size": 32, "renew_steps": 10, "learning_rate": 0.02, "warmup": 5}
