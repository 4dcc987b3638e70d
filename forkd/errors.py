"""The errors that forkd raises; each carries a sentence for people and nothing else."""


class ForkdError(Exception):
    """Anything that forkd itself refuses or cannot do; its text names the cause and the next step."""


class UsageError(ForkdError):
    """A command's words cannot be understood."""


class ConfigError(ForkdError):
    """The configuration is wrong; `problems` holds one `file:line:column: path: …` line per mistake."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class ChannelClosed(ForkdError):
    """The other end of a channel is gone."""


class ProtocolError(ForkdError):
    """A peer sent what the protocol does not allow; its sender is to blame and only it suffers."""


class NotRunning(ForkdError):
    """No launcher answers on the runtime directory."""
