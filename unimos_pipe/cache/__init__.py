"""Cache of features between the stages: identities, paths, shards, the store that reads them, maintenance."""
