"""The HTTP edge: parses, asks a flow, answers. It decides nothing about stock, money or rights."""
