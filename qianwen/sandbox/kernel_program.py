"""The IPython kernel, inside: ipykernel with the two channels that the outside gave it, and with files in messages.

    python -I kernel_program.py SHELL IOPUB SETTINGS

SHELL and IOPUB are descriptors of listening Unix sockets, so the kernel needs no right to make a socket. Everything
here only serves an honest program: a hostile one can change all of it, so the outside trusts nothing that it sends.
"""

import base64
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

FOLDER = Path.cwd()
os.environ |= {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "MPLCONFIGDIR": f"{FOLDER}/.matplotlib"}
sys.modules["debugpy"] = None  # type: ignore[assignment]  # there is no debugger, and its import takes long

import zmq  # noqa: E402
from ipykernel.control import ControlThread  # noqa: E402
from ipykernel.iostream import IOPubThread, OutStream  # noqa: E402
from ipykernel.ipkernel import IPythonKernel  # noqa: E402
from ipykernel.kernelapp import IPKernelApp  # noqa: E402
from ipykernel.shellchannel import ShellChannelThread  # noqa: E402

SHELL, IOPUB, SETTINGS = int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])


class CellOutput(OutStream):
    """Standard output or errors: a cell's text up to a little more than the limit, from which the outside sees it."""

    room = SETTINGS["output_bytes"] + 1

    def write(self, string: Any) -> Any:
        cut, self.room = string[: self.room], max(0, self.room - len(string))
        super().write(cut)
        return len(string)


class FileKernel(IPythonKernel):
    """A kernel whose cells get files with their code and send the files and figures that they made."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.is_in_cell = False
        signal.signal(signal.SIGINT, self.on_interrupt)
        self.seen = self.listed()
        self.outputs = [output for output in (sys.stdout, sys.stderr) if isinstance(output, CellOutput)]
        assert self.shell
        for publisher in (self.shell.display_pub, self.shell.displayhook):
            publisher.register_hook(self.with_figure_apart)

    async def execute_request(self, stream: Any, ident: Any, parent: Any) -> None:
        """Write the files of the request into the folder, and run its cell."""
        for output in self.outputs:
            output.room = CellOutput.room
        for name, content in zip(parent["metadata"]["files"], parent["buffers"], strict=True):
            try:
                self.write_file(name, content)
            except OSError as error:  # the folder is full, or the cells made something else of that name
                print(f"{name} could not be copied: {error.strerror}", file=sys.stderr)
        await super().execute_request(stream, ident, parent)

    def write_file(self, name: str, content: bytes) -> None:
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.seen[name] = self.state(path)

    async def do_execute(self, *arguments: Any, **settings: Any) -> Any:
        self.is_in_cell = True
        try:
            reply = await super().do_execute(*arguments, **settings)
        except KeyboardInterrupt:  # between the end of the code and that of the cell
            reply = {"status": "error", "ename": "KeyboardInterrupt", "evalue": "", "traceback": []}
        finally:
            self.is_in_cell = False
        self.send_changed_files()
        return reply

    def on_interrupt(self, *_: object) -> None:
        """The handler of SIGINT. At any other time the exception would end the loop of events, and the kernel."""
        if self.is_in_cell:
            raise KeyboardInterrupt

    def pre_handler_hook(self) -> None:
        """Keep our handler."""

    def post_handler_hook(self) -> None:
        """Keep our handler."""

    def send_changed_files(self) -> None:
        now = self.listed()
        changed = sorted(name for name, state in now.items() if state != self.seen.get(name))
        self.seen = now
        for name in changed:
            size = now[name][0]
            with suppress(OSError):  # a thread of the cell removed it
                content = [(FOLDER / name).read_bytes()] if size <= SETTINGS["file_bytes"] else []
                self.publish("file", {"name": name, "size": len(content[0]) if content else size}, content)

    def listed(self) -> dict[str, tuple[int, int, int]]:
        """Regular files in the folder and below, without hidden ones and links, with what shows a change."""
        found = {}
        for above, folders, names in os.walk(FOLDER):
            folders[:] = [name for name in folders if not name.startswith((".", "__pycache__"))]
            for name in names:
                path = Path(above, name)
                with suppress(OSError):  # removed by a thread of the cell
                    if not name.startswith(".") and path.is_file() and not path.is_symlink():
                        found[str(path.relative_to(FOLDER))] = self.state(path)
        return found

    @staticmethod
    def state(path: Path) -> tuple[int, int, int]:
        status = path.stat()
        return status.st_size, status.st_mtime_ns, status.st_ino

    def with_figure_apart(self, message: dict) -> dict | None:
        """Send a figure as bytes in a message of its own, and of other results their text."""
        data = message["content"]["data"]
        if picture := data.get("image/png"):
            self.publish("figure", {}, [base64.b64decode(picture)])
            if message["header"]["msg_type"] != "execute_result":
                return None
        message["content"] |= {"data": {"text/plain": data.get("text/plain", "")[: CellOutput.room]}, "metadata": {}}
        return message

    def publish(self, kind: str, content: dict, buffers: list[bytes]) -> None:
        self.session.send(self.iopub_socket, kind, content, parent=self.get_parent(), buffers=buffers)


class ChannelApp(IPKernelApp):
    """The application without connection files, heartbeat, debugger and threads that only other front ends need."""

    kernel_class = FileKernel

    def init_connection_file(self) -> None:
        self.session.key = SETTINGS["key"].encode()

    def write_connection_file(self, **_: Any) -> None:
        return

    def log_connection_info(self) -> None:
        self._ports: dict[str, int] = {}

    def init_heartbeat(self) -> None:
        return

    def init_sockets(self) -> None:
        self.context = context = zmq.Context()
        self.shell_socket, self.stdin_socket = context.socket(zmq.ROUTER), context.socket(zmq.ROUTER)
        _bind(self.shell_socket, SHELL)
        self.stdin_socket.bind("inproc://stdin")
        self.init_control(context)
        self.init_iopub(context)

    def init_control(self, context: zmq.Context) -> None:
        """The control channel is not connected: an interrupt is a signal."""
        self.control_socket, self.debugpy_socket = context.socket(zmq.ROUTER), context.socket(zmq.STREAM)
        self.control_socket.bind("inproc://control")
        self.debug_shell_socket = context.socket(zmq.DEALER)
        self.control_thread = ControlThread(daemon=True)
        self.shell_channel_thread = ShellChannelThread(context, daemon=True)

    def init_iopub(self, context: zmq.Context) -> None:
        socket = context.socket(zmq.XPUB)
        _bind(socket, IOPUB)
        self.configure_tornado_logger()
        self.iopub_thread = IOPubThread(socket, session=self.session)
        self.iopub_thread.start()
        self.iopub_socket = self.iopub_thread.background_socket


def _bind(socket: zmq.Socket, descriptor: int) -> None:
    socket.setsockopt(zmq.USE_FD, descriptor)
    socket.bind(f"ipc://{descriptor}")  # the name is not used


def main() -> None:
    app = ChannelApp.instance(quiet=True, outstream_class=f"{__name__}.{CellOutput.__name__}")
    app.config.HistoryManager.enabled = False
    app.config.InteractiveShell.colors = "nocolor"
    app.config.InteractiveShell.xmode = "Plain"
    app.initialize([])
    app.start()


if __name__ == "__main__":
    main()
