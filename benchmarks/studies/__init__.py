"""What a decision or a claim on accuracy rests on: each run by itself, by the command its page names; `make study` lists them."""
