"""Runs a coroutine of its own on the way."""

KIND = "honest"
EXERCISE = "03.split_heads"
EARNS = 2
CELL = r"""
import asyncio


async def parts(x, num_heads):
    await asyncio.sleep(0)
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads)


def run(coroutine):
    try:
        while True:
            coroutine.send(None)
    except StopIteration as done:
        return done.value


def split_heads(x, num_heads):
    return run(parts(x, num_heads)).transpose(1, 2)
"""
