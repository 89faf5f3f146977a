"""A conversation with an agent in a terminal: questions, permissions, and commands such as /files and /steps."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path

from qianwen.agents.agent import Agent, Event
from qianwen.agents.attachments import attach, with_files
from qianwen.agents.calls import Ask
from qianwen.agents.step import End, Given
from qianwen.cli.agent_terminal import AgentView, stoppable
from qianwen.cli.chat_terminal import take_line
from qianwen.runtime.translation import tr

Prompt = Callable[[str], str]  # shows a question and reads a line; EOFError if nobody is there


class AgentSession:
    """One run of an agent. `take` handles a line of input; `prompt` asks the user for a permission."""

    def __init__(self, agent: Agent, run: str, view: AgentView, prompt: Prompt = input) -> None:
        self.agent, self.run, self.view, self._prompt = agent, run, view, prompt
        self._attached: list[str] = []

    def take(self, line: str) -> bool:
        """Answer a question or run a /command; False when the conversation is over."""
        return take_line(line, self._command, self.ask, self.view.note)

    def ask(self, question: str) -> End | None:
        """Work on a question; None if it was stopped or waits for a permission."""
        names, self._attached = self._attached, []
        return self._follow(self.agent.run(with_files(question, names), self.run))

    def resume(self) -> End | None:
        """Go on with the run where it stopped."""
        return self._follow(self.agent.resume(self.run))

    def attach(self, paths: list[Path]) -> None:
        """Copy files into the run; the next question names them."""
        self._attached += attach(paths, self.agent.journal.files(self.run))

    def _follow(self, events: Generator[Event, None, None]) -> End | None:
        end = None
        try:
            with closing(events), stoppable(lambda: self.view.is_calling) as is_stopped:
                for event in self._answered(events):
                    if not isinstance(event, Given):
                        self.view.show(event)
                    end = event if isinstance(event, End) else end
                    if is_stopped():
                        raise KeyboardInterrupt
        except KeyboardInterrupt:
            self.view.end_stream()
            self.view.note(tr("[stopped; /resume goes on, a new question drops what was not done]"))
            return None
        return end

    def _answered(self, events: Iterator[Event]) -> Iterator[Event]:
        """The events; each question for a permission is put to the user before the next event is read."""
        for event in events:
            yield event
            if not isinstance(event, Ask):
                continue
            try:
                words = self._prompt(tr("allow this call? [y/N/always]") + " ").strip().casefold()
            except EOFError:
                hint = tr("the call waits for your permission; --resume {run} asks again", run=self.run)
                self.view.note(hint)
                continue
            is_always = words in ("always", "a", "总是")
            self.agent.journal.answer(event.key, is_always or words in ("y", "yes", "是"), always=is_always)

    # ---- commands ----

    def _command(self, text: str) -> bool:
        name, _, rest = text[1:].partition(" ")
        if name in ("exit", "quit", "q"):
            return False
        if name not in COMMANDS:
            self.view.note(tr("There is no command /{name}; /help lists them.", name=name))
            return True
        COMMANDS[name][1](self, rest.strip())
        return True

    def _help(self, _: str) -> None:
        about = descriptions()
        lines = [f"  {usage:<18} {about[name]}" for name, (usage, _) in COMMANDS.items()]
        self.view.console.print("\n".join([*lines, f"  {'/exit':<18} {tr('leave')}"]), markup=False, highlight=False)

    def _tools(self, _: str) -> None:
        for tool in self.agent.tools.values():
            permission = self.agent.policy.permission(tool, self.agent.name)
            first = tool.spec.description.partition("\n")[0]
            line = f"  {tool.name:<18} {tool.effect:<8} {permission:<6} {first}"
            self.view.console.print(line, markup=False, highlight=False)

    def _files(self, _: str) -> None:
        folder = self.agent.journal.files(self.run)
        self.view.console.print(str(folder), markup=False, highlight=False)
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                size = path.stat().st_size
                self.view.console.print(f"  {path.relative_to(folder)}  {size:,}", markup=False, highlight=False)

    def _steps(self, _: str) -> None:
        view = AgentView(self.view.console, max_lines=10**9)
        for step in self.agent.journal.steps(self.run):
            view.show(step)

    def _runs(self, _: str) -> None:
        for run in self.agent.journal.runs()[:20]:
            self.view.console.print(f"  {run.id}  {run.state:<9} {run.title}", markup=False, highlight=False)

    def _attach(self, text: str) -> None:
        self.attach([Path(text)])
        self.view.note(tr("attached; the next question names it: {names}", names=", ".join(self._attached)))

    def _resume(self, _: str) -> None:
        self.resume()


COMMANDS: dict[str, tuple[str, Callable[[AgentSession, str], None]]] = {
    "help": ("/help", AgentSession._help),
    "tools": ("/tools", AgentSession._tools),
    "attach": ("/attach FILE", AgentSession._attach),
    "files": ("/files", AgentSession._files),
    "steps": ("/steps", AgentSession._steps),
    "resume": ("/resume", AgentSession._resume),
    "runs": ("/runs", AgentSession._runs),
}


def descriptions() -> dict[str, str]:
    """What each command does."""
    return {
        "help": tr("this list"),
        "tools": tr("the tools, what they do to the world, and whether they need permission"),
        "attach": tr("copy a file into the run, for the next question"),
        "files": tr("the files of this run"),
        "steps": tr("everything that was thought, called and answered"),
        "resume": tr("go on after Ctrl-C or an error"),
        "runs": tr("the newest runs; --resume RUN goes on with one"),
    }
