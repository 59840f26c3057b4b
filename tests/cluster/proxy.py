"""A network to one server: `proxy.py PORT TARGET`. SIGUSR1 cuts it and SIGUSR2 mends it.

A cut network passes no byte and ends no connection, those that are opened meanwhile included.
"""

import asyncio
import signal
import sys


async def main(port, target):
    passes = asyncio.Event()
    passes.set()

    async def pump(reader, writer):
        try:
            while data := await reader.read(65536):
                await passes.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        await passes.wait()
        writer.close()

    async def connect(reader, writer):
        await passes.wait()
        try:
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, to_writer), pump(to_reader, writer))

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, passes.clear)
    loop.add_signal_handler(signal.SIGUSR2, passes.set)
    async with await asyncio.start_server(connect, "127.0.0.1", port) as server:
        await server.serve_forever()


asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
