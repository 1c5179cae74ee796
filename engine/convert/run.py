"""One run of a conversion: checks what is there, writes the missing shards, then the rest. Knows no profile and no formats.

A shard has its name when it is whole and on the disk, and stands in conversion.json from then on. What a run finds that does
not stand there, or is no longer what it was, it writes again.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from engine.convert.plan import ConversionPlan, Item, Shard, config_of
from engine.convert.record import RECORD, FinishedShard, Record, read_record, write_record
from engine.convert.shard_file import TEMPORARY, ShardFile, sha256, sync_folder, write_whole
from engine.convert.worker import converted
from engine.errors import ConversionError, LoadCancelledError
from engine.events import LoadProgress
from engine.weights.crew import crew, work_through
from engine.weights.json_fields import read_json_object
from engine.weights.safetensors_file import SafetensorsFiles
from engine.weights.shards import INDEX

CONFIG = "config.json"
_SPARE_BYTES = 16 << 20  # JSON files and the file system's own
_COPIED = frozenset({".json", ".jinja", ".model", ".tiktoken", ".txt", ".py", ".md"})
_COPIED_NAMES = ("LICENSE", "NOTICE")

OnProgress: TypeAlias = Callable[[LoadProgress], None]
Cancelled: TypeAlias = Callable[[], bool]


class Run:
    """One run of a conversion, from what is there to what is finished. Holds the lock of `partial`."""

    def __init__(
        self,
        plan: ConversionPlan,
        partial: Path,
        target: Path,
        workers: int,
        on_progress: OnProgress,
        cancelled: Cancelled,
    ) -> None:
        self._plan = plan
        self._partial = partial
        self._target = target
        self._workers = workers
        self._on_progress = on_progress
        self._cancelled = cancelled
        self._done_bytes = 0
        self.converted_bytes = 0  # of the source, by this run
        self.num_kept = 0  # shards that were finished before
        self.seconds = 0.0
        self._record = self._begun()

    def finish(self) -> None:
        """Write what is missing and give the folder its name. LoadCancelledError, ConversionError, CheckpointError, OSError."""
        plan, started = self._plan, time.monotonic()
        self.num_kept = self._check_finished_shards()
        self._check_room()
        with plan.checkpoint.open_files() as files, crew(self._workers) as threads:
            for number, shard in enumerate(plan.shards, 1):
                if shard.name not in self._record.shards:
                    self._write(shard, f"shard {number} of {len(plan.shards)}", files, threads)
        self._report("writing the rest", "")
        self._write_rest()
        self._partial.rename(self._target)
        sync_folder(self._target.parent)
        self.seconds = time.monotonic() - started

    def _begun(self) -> Record:
        """The record to go on from; a new one where nothing was begun."""
        plan, folder = self._plan, self._partial
        shards = {info.shard for info in plan.checkpoint.tensors.values()}
        modified = {name: (plan.checkpoint.path / name).stat().st_mtime_ns for name in sorted(shards)}
        record = read_record(folder)
        if record is None:
            if any(not path.name.endswith(TEMPORARY) for path in folder.iterdir()):
                raise ConversionError(f"{folder} holds something else; move it away, or name another folder")
            record = Record(plan.identity, plan.checkpoint.name, modified)
            write_record(folder, record)
        elif record.identity != plan.identity or (record.modified and record.modified != modified):
            raise ConversionError(
                f"{folder} holds an unfinished conversion with other settings, or of files that have changed since; "
                "remove it, or give the settings with which it began"
            )
        for leftover in folder.glob(f"*{TEMPORARY}"):
            leftover.unlink()
        return replace(record, modified=modified)

    def _check_finished_shards(self) -> int:
        """Forget those that are not what they were when they were finished; returns how many are left."""
        sound: dict[str, FinishedShard] = {}
        for shard in self._plan.shards:
            finished = self._record.shards.get(shard.name)
            path = self._partial / shard.name
            if finished is None or not path.is_file() or path.stat().st_size != shard.nbytes:
                continue
            self._report("checking finished shards", shard.name)
            digest = sha256(path, self._cancelled)
            if digest is None:
                raise self._stopped()
            if digest == finished.sha256:
                sound[shard.name] = finished
                self._done_bytes += sum(item.source_bytes for item in shard.items)
        self._record = replace(self._record, shards=sound)
        return len(sound)

    def _check_room(self) -> None:
        missing = [shard for shard in self._plan.shards if shard.name not in self._record.shards]
        for shard in missing:
            (self._partial / shard.name).unlink(missing_ok=True)
        needed = sum(shard.nbytes for shard in missing) + _SPARE_BYTES
        free = shutil.disk_usage(self._partial).free
        if needed > free:
            raise ConversionError(
                f"{self._target} needs {needed:,} bytes more, {free:,} are free there; make room, or take a smaller "
                "format or another disk"
            )

    def _write(self, shard: Shard, detail: str, files: SafetensorsFiles, threads: ThreadPoolExecutor) -> None:
        with ShardFile(self._partial, shard) as file:

            def work(item: Item) -> Item:
                for part, tensor in converted(self._plan, files, item):
                    file.write(part, tensor.contiguous())
                return item

            with closing(work_through(threads, work, shard.items, self._cancelled)) as finished:
                for item in finished:
                    self._done_bytes += item.source_bytes
                    self.converted_bytes += item.source_bytes
                    self._report("converting", detail)
            digest = None if self._cancelled() else file.finish(self._cancelled)
        if digest is None:
            raise self._stopped()
        shards = {**self._record.shards, shard.name: FinishedShard(shard.nbytes, digest)}
        self._record = replace(self._record, shards=shards)
        write_record(self._partial, self._record)

    def _write_rest(self) -> None:
        """config.json, the index, tokenizer and templates; the record last, without what only a running one needs."""
        plan, source = self._plan, self._plan.checkpoint.path
        for path in sorted(source.iterdir()):
            if _is_copied(path):
                write_whole(self._partial / path.name, path.read_bytes())
        config = config_of(plan, read_json_object(source / CONFIG))
        write_whole(self._partial / CONFIG, _json(config))
        parts = {
            part.name: shard.name for shard in plan.shards for item in shard.items for part in item.parts
        }
        data_bytes = sum(part.nbytes for item in plan.items for part in item.parts)
        index = {"metadata": {"total_size": data_bytes}, "weight_map": dict(sorted(parts.items()))}
        write_whole(self._partial / INDEX, _json(index))
        shards = dict(sorted(self._record.shards.items()))
        write_record(self._partial, replace(self._record, modified={}, shards=shards))

    def _report(self, stage: str, detail: str) -> None:
        self._on_progress(LoadProgress(stage, self._done_bytes, self._plan.source_bytes, detail))

    def _stopped(self) -> LoadCancelledError:
        return LoadCancelledError(
            f"the conversion was stopped; {len(self._record.shards)} of {len(self._plan.shards)} shards are finished in "
            f"{self._partial}, and the same command goes on there"
        )


def _is_copied(path: Path) -> bool:
    kept = path.suffix in _COPIED or path.stem in _COPIED_NAMES
    written = path.name in (CONFIG, RECORD) or path.name.endswith(".safetensors.index.json")
    return kept and not written and not path.name.startswith(".") and path.is_file()


def _json(value: Mapping[str, object]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")
