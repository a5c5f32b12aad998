"""Stage finetune."""
