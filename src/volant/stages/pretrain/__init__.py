"""Stage pretrain."""
