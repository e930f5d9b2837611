"""Decoding of a file of sound alone: speech, music. The clock's zero is its first sample."""

from collections.abc import Iterator

import av

from preprocess.video.decoded import QUIETEST, Frame, Samples
from preprocess.video.decoder import HIGHEST_RATE, Decoder
from preprocess.video.limits import Unusable
from preprocess.video.log_mel import SAMPLE_RATE
from preprocess.video.sound import MonoTrack

EVERYTHING = 1 << 62  # samples


class SoundDecoder(Decoder):
    """A Decoder that also takes files without pictures; such a file has no `pictures`."""

    @property
    def seconds(self) -> float:
        """The length so far; of sound alone, in whole frames of the store's rate."""
        if self.pictures is not None:
            return super().seconds
        return max(1, round(self.sound.count / SAMPLE_RATE * self._fps)) / self._fps

    def _decode(self, container: av.container.InputContainer) -> Iterator[Frame | Samples]:
        cover = av.stream.Disposition.attached_pic
        if any(not stream.disposition & cover for stream in container.streams.video) or not container.streams.audio:
            yield from super()._decode(container)
            return
        track = container.streams.best("audio")
        if track.codec_context is None:
            raise Unusable("no video: sound of an unknown codec")
        track.codec_context.thread_count, track.thread_type = 1, "NONE"
        self.source |= {"container": container.format.name, "audio_codec": track.codec_context.name}
        mono = MonoTrack()
        self.sound.begin(0.0)
        for packet in self._packets(container):
            if packet.stream is track and self.audio_absent is None:
                for frame in self._decode_packet(packet):
                    for samples in mono.push(frame) if frame.sample_rate <= HIGHEST_RATE else ():
                        self.sound.push(samples)
                yield from self._heard()
                self.limits.check_length(seconds=self.sound.count / SAMPLE_RATE, frames=0)
            self._beat()
        for samples in mono.finish():
            self.sound.push(samples)
        yield from self._heard()
        if self.sound.covered is None:
            raise Unusable("corrupt: no sound can be decoded" if self.audio_absent is None else self.audio_absent)
        self.limits.check_whole(seconds=self.seconds, cut_from=None)
        if self.sound.peak < QUIETEST:
            self.audio_absent = "silent"
        for samples in self.sound.pad(round(self.seconds * SAMPLE_RATE)):
            yield Samples(samples, there=False)
        self.notes += sorted(mono.notes)

    def _heard(self) -> Iterator[Samples]:
        for samples in self.sound.take(EVERYTHING):
            yield Samples(samples)
