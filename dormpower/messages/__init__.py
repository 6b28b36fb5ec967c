"""One catalogue of sentences, Chinese and English."""

from dormpower.messages.catalogue import negotiate, text
from dormpower.messages.catalogue import text as text_of

__all__ = ["negotiate", "text", "text_of"]
