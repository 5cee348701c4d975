"""How questions are put to a model, and how its answers are decoded: settings alone."""

from dataclasses import dataclass, field

from spacer_lib.language.prompts import PromptStyle
from spacer_lib.rooms.frames import VideoSettings


@dataclass(frozen=True)
class AskSettings:
    """The one carrier of prompt, video and decoding settings.

    Attributes
    ----------
    mode : str or PromptStyle
        Answer mode of ``prompts.messages``, with its frame and template if not ours.
    video : VideoSettings
    max_new_tokens : int
        New tokens at most; a forced prefix does not count.
    temperature : float
        0 is greedy.
    top_p : float
        Nucleus of sampling.
    seed : int
        Of sampling. What a row draws depends on it and on the row's id.
    batch_size : int
        Rows that a model in this process answers at once.
    """

    mode: str | PromptStyle
    video: VideoSettings = field(default_factory=VideoSettings)
    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    batch_size: int = 32

    @property
    def style(self) -> PromptStyle:
        """The mode as a prompt style."""
        return PromptStyle(self.mode) if isinstance(self.mode, str) else self.mode
