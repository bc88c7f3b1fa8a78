"""The rooms of this process: what is shown in each, who is in it, and the bytes that go to everybody."""
