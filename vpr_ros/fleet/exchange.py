"""A replication log with cursors, pull only: what is lost is requested again, and nobody is sent what nobody requested.

A robot holds a cursor for each session, its own and others': the id up to which it lacks no keyframe. It offers its cursors once a second.
Who hears of a higher one requests what follows his own from one holder, the robot that made the keyframes or another one that has
them. A request is answered by one batch of bounded size, which everybody takes whose cursor it continues. So no order of arrival, loss or
repetition can make a gap, and names (robot, session, id) no duplicate.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from vpr_ros.fleet.checks import check_batch, check_id, check_picture, check_session
from vpr_ros.fleet.protocol import (
    BATCH_BYTES,
    KEYFRAME_BYTES,
    LINK_BYTES,
    MOST_KEYFRAMES,
    MOST_OFFERED,
    MOST_PICTURES,
    NOTHING,
    Batch,
    Message,
    Offer,
    Picture,
    Request,
    SessionName,
    fitting,
    size_bytes,
)
from vpr_ros.types import Keyframe, KeyframeRef, Thumbnail

OFFER_S = 1.0
REPEATED = 16
"""Sessions that did not grow, in each offer: they take turns."""
ANSWER_S = 2.0
"""Without an answer for so long a request has failed, and the peer is left alone for as long; twice as long after each further failure."""
LONGEST_REST_S = 60.0
SILENT_S = 10.0
"""A peer that was not heard for so long is away."""
WANTED_S = 60.0
"""A picture that no query wanted for so long is not requested any more."""
MOST_WANTED = 64
MOST_AWAITED = 10_000
"""Keyframes that others are linked with and that are still to come."""
MOST_PEERS = 64
MOST_SESSIONS = 4096
"""Of a peer."""
MOST_WAITING = 512
"""Keyframes that wait for the disk: with more, none are requested."""


class Map(Protocol):
    """What an exchange needs of a `PlaceMap`."""

    @property
    def durable_ids(self) -> dict[SessionName, int]: ...

    @property
    def waiting(self) -> int: ...

    def names_after(self, robot: str, session: str, after: int, up_to: int, limit: int) -> Sequence[KeyframeRef]: ...

    def without_picture(self, ref: KeyframeRef, /) -> Keyframe: ...

    def matches_of(self, refs: Iterable[KeyframeRef], /) -> Sequence[tuple[KeyframeRef, KeyframeRef]]: ...

    def link(self, match: KeyframeRef, keyframe: KeyframeRef, /) -> None: ...

    def count_of(self, robot: str) -> int: ...

    def __contains__(self, ref: KeyframeRef, /) -> bool: ...

    def __getitem__(self, ref: KeyframeRef, /) -> Keyframe: ...

    def add(self, keyframe: Keyframe, /) -> None: ...

    def add_thumbnail(self, ref: KeyframeRef, thumbnail: Thumbnail, /) -> None: ...


@dataclass(slots=True)
class _Asked:
    """A request without an answer yet; of pictures, `request` has those that are still missing."""

    request: Request
    since_s: float


@dataclass(slots=True)
class _Peer:
    heard_s: float
    model_id: str = ""
    cursors: dict[SessionName, int] = field(default_factory=dict)
    failures: int = 0
    rests_until_s: float = -math.inf
    keyframes: _Asked | None = None
    pictures: _Asked | None = None

    def answered(self) -> None:
        self.failures, self.rests_until_s = 0, -math.inf

    def failed(self, now_s: float) -> None:
        self.failures += 1
        self.rests_until_s = now_s + min(LONGEST_REST_S, ANSWER_S * 2 ** min(self.failures - 1, 10))


@dataclass(slots=True)
class _Wanted:
    since_s: float
    none_at: set[str] = field(default_factory=set)
    """Peers that have no picture either."""


@dataclass(frozen=True, slots=True)
class PeerReport:
    """What is known of a peer: how many keyframes of its own are here, of how many of its sessions some are missing and how many at most
    (ids may have gaps), and how long ago it was heard. `is_strange`: it has another model."""

    name: str
    keyframes: int
    sessions_behind: int
    most_behind: int
    silent_s: float
    is_strange: bool


@dataclass(frozen=True, slots=True)
class ExchangeState:
    """`faults`: why nothing is exchanged, or not with a peer, a sentence each. `sent_bytes` are of batches and pictures, so far."""

    faults: tuple[str, ...]
    peers: tuple[PeerReport, ...]
    sent_bytes: int


class Exchange:
    """One robot's side. `now_s` is of any clock that never goes back. Not for several threads.

    Each `on_` method takes a message in, whoever it is for. It raises ValueError for one that cannot be, which then changed nothing.
    """

    def __init__(
        self, robot: str, model_id: str, dim: int, place_map: Map, *, takes: bool = True, max_bytes_per_s: float = 250e3
    ) -> None:
        """`takes`: whether the map may grow; without, the robot only gives. `max_bytes_per_s` are of batches and pictures."""
        self.robot, self.model_id = robot, model_id
        self._sent_bytes = 0
        self._dim, self._map, self._takes = dim, place_map, takes
        self._max_bytes_per_s = max_bytes_per_s
        self._budget_bytes, self._budget_s = float(BATCH_BYTES), -math.inf
        self._peers: dict[str, _Peer] = {}
        self._next_offer_s = -math.inf
        self._offered: dict[SessionName, int] = {}
        self._turns: deque[SessionName] = deque()
        self._made: dict[SessionName, int] = {}
        """The highest cursor that was ever offered of each own session."""
        self._twin_s = -math.inf
        self.restart()

    def restart(self) -> None:
        """The map is another one from now on; or this begins."""
        self._cursors = {name: id for name, id in self._map.durable_ids.items() if all(name) and name[0] != self.robot}
        """Of other robots' sessions. What a map has of one has no gap, because batches are added in order."""
        self._awaited: dict[KeyframeRef, list[KeyframeRef]] = {}
        """Matches that are still to come, each with the keyframes that are linked with it."""
        self._asked_s: dict[SessionName, float] = {}
        self._wanted: dict[KeyframeRef, _Wanted] = {}
        self._requests: dict[str, Request] = {}
        """That wait for an answer, by who sent them: one of each."""
        self._due_pictures: dict[KeyframeRef, None] = {}
        """In the order in which they were requested."""
        for peer in self._peers.values():
            peer.keyframes = peer.pictures = None

    # --- what arrives -----------------------------------------------------------------------------------------------

    def on_offer(self, offer: Offer, now_s: float) -> None:
        for name, cursor in offer.cursors:
            check_session(name)
            check_id(cursor)
        if offer.sender == self.robot:
            if any(name[0] == self.robot and cursor > self._made.get(name, NOTHING) for name, cursor in offer.cursors):
                self._twin_s = now_s
            return
        peer = self._heard(offer.sender, now_s, offer.model_id)
        if peer.model_id != self.model_id:
            return
        for name, cursor in offer.cursors:
            if name[0] != self.robot and (name in peer.cursors or len(peer.cursors) < MOST_SESSIONS):
                peer.cursors[name] = cursor

    def on_request(self, request: Request, now_s: float) -> None:
        check_session(request.session)
        for id in request.pictures:
            check_id(id)
        if request.sender == self.robot or request.receiver != self.robot:
            return
        self._heard(request.sender, now_s)
        if request.pictures:
            for id in request.pictures[:MOST_PICTURES]:
                if len(self._due_pictures) < MOST_PICTURES * MOST_PEERS:
                    self._due_pictures[KeyframeRef(*request.session, id)] = None
        elif request.sender in self._requests or len(self._requests) < MOST_PEERS:
            self._requests[request.sender] = request

    def on_batch(self, batch: Batch, now_s: float) -> None:
        if batch.sender == self.robot or batch.session[0] == self.robot:
            return
        if batch.model_id != self.model_id:
            self._heard(batch.sender, now_s, batch.model_id)
            return
        check_batch(batch, self._dim)
        sender, cursor = self._heard(batch.sender, now_s), self._cursors.get(batch.session, NOTHING)
        if self._may_take(now_s) and batch.after <= cursor < batch.up_to:
            new = [k for k in batch.keyframes if k.ref.id > cursor and k.ref not in self._map]
            for keyframe in new:
                self._map.add(keyframe)
            cursor = self._cursors[batch.session] = batch.up_to
            self._link({keyframe.ref for keyframe in new}, batch.links)
        asked = sender.keyframes
        if (
            asked is not None
            and asked.request.session == batch.session
            and batch.after <= asked.request.after < batch.up_to
        ):
            sender.keyframes = None
            sender.answered()
        for peer in self._peers.values():  # whoever else was asked is too late
            asked = peer.keyframes
            if asked is not None and asked.request.session == batch.session and asked.request.after < cursor:
                peer.keyframes = None

    def _link(self, new: Collection[KeyframeRef], links: Iterable[tuple[KeyframeRef, KeyframeRef]]) -> None:
        """Those of keyframes that are new, with matches that are here; the others as their matches come."""
        for ref, match in links:
            if ref not in new:
                continue
            if match in self._map:
                self._link_if_there(match, ref)
            elif (
                self._cursors.get((match.robot, match.session), NOTHING) < match.id
                and len(self._awaited) < MOST_AWAITED
            ):
                self._awaited.setdefault(match, []).append(ref)
        for match in new:
            for ref in self._awaited.pop(match, ()):
                self._link_if_there(match, ref)

    def _link_if_there(self, match: KeyframeRef, ref: KeyframeRef) -> None:
        with suppress(KeyError):  # one of them was pruned
            self._map.link(match, ref)

    def _may_take(self, now_s: float) -> bool:
        """Keyframes: not while the disk is behind, or a full one would fill the memory, too."""
        return self._takes and not self.has_twin(now_s) and self._map.waiting < MOST_WAITING

    def on_picture(self, picture: Picture, now_s: float) -> None:
        ref = picture.ref
        if picture.sender == self.robot or ref.robot == self.robot:
            return
        check_session((ref.robot, ref.session))
        check_id(ref.id)
        if picture.thumbnail is not None:
            check_picture(picture.thumbnail)
        peer = self._heard(picture.sender, now_s)
        if picture.thumbnail is None:
            if ref in self._wanted:
                self._wanted[ref].none_at.add(picture.sender)
        elif self._takes and not self.has_twin(now_s):
            self._wanted.pop(ref, None)
            keyframe = self._find(ref)
            if keyframe is not None and keyframe.thumbnail is None:
                with suppress(KeyError):  # pruned just now
                    self._map.add_thumbnail(ref, picture.thumbnail)
        asked = peer.pictures
        if asked is not None and asked.request.session == (ref.robot, ref.session):
            missing = tuple(id for id in asked.request.pictures if id != ref.id)
            if missing != asked.request.pictures:
                request = Request(self.robot, picture.sender, asked.request.session, pictures=missing)
                peer.pictures = _Asked(request, now_s) if missing else None
                peer.answered()

    def want(self, refs: Iterable[KeyframeRef], now_s: float) -> None:
        """Request the pictures of these keyframes, as far as they are other robots'; the last `MOST_WANTED` are remembered."""
        if not self._takes:
            return
        for ref in refs:
            if ref.robot and ref.robot != self.robot:
                known = self._wanted.pop(ref, None) or _Wanted(now_s)
                known.since_s = now_s
                self._wanted[ref] = known
        for ref in list(self._wanted)[:-MOST_WANTED]:
            del self._wanted[ref]

    # --- what leaves ------------------------------------------------------------------------------------------------

    def tick(self, now_s: float) -> list[Message]:
        """What to send now; called several times a second."""
        self._give_up(now_s)
        messages: list[Message] = []
        if now_s >= self._next_offer_s:
            self._next_offer_s = now_s + OFFER_S
            messages.append(self._offer())
        if self.has_twin(now_s):
            return messages
        messages += self._answers(now_s)
        if self._takes:
            messages += self._picture_requests(now_s)
            if self._may_take(now_s):
                messages += self._keyframe_requests(now_s)
        return messages

    def _held(self) -> dict[SessionName, int]:
        """Cursors of all sessions: what can be given. Own keyframes that a loss of power could take back are not offered."""
        own = {name: id for name, id in self._map.durable_ids.items() if name[0] == self.robot and all(name)}
        return own | self._cursors

    def _offer(self) -> Offer:
        """What grew since it was last offered, and in turn the rest."""
        held = self._held()
        names = [name for name, cursor in held.items() if self._offered.get(name) != cursor][:MOST_OFFERED]
        if not self._turns:
            self._turns.extend(held)
        for _ in range(min(REPEATED, len(self._turns), MOST_OFFERED - len(names))):
            name = self._turns.popleft()
            if name in held and name not in names:
                names.append(name)
        cursors = tuple((name, held[name]) for name in names)
        self._offered.update(cursors)
        self._made.update(
            {name: max(id, self._made.get(name, NOTHING)) for name, id in cursors if name[0] == self.robot}
        )
        return Offer(self.robot, self.model_id, cursors)

    def _answers(self, now_s: float) -> list[Message]:
        """Pictures and batches, as many as the budget of bytes has room for; its debt is paid before the next one."""
        passed_s = min(now_s - self._budget_s, OFFER_S)
        self._budget_bytes = min(self._budget_bytes + self._max_bytes_per_s * passed_s, float(BATCH_BYTES))
        self._budget_s = now_s
        answers: list[Message] = []
        while self._budget_bytes > 0.0:
            answer = self._next_picture() if self._due_pictures else self._next_batch()
            if answer is None:
                break
            answers.append(answer)
            size = size_bytes(answer)
            self._sent_bytes += size
            self._budget_bytes -= size
        return answers

    def _next_picture(self) -> Picture:
        ref = next(iter(self._due_pictures))
        del self._due_pictures[ref]
        keyframe = self._find(ref)
        return Picture(self.robot, ref, None if keyframe is None else keyframe.thumbnail)

    def _without_picture(self, ref: KeyframeRef) -> Keyframe | None:
        try:
            return self._map.without_picture(ref)
        except KeyError:  # pruned just now
            return None

    def _find(self, ref: KeyframeRef) -> Keyframe | None:
        try:
            return self._map[ref]
        except KeyError:
            return None

    def _next_batch(self) -> Batch | None:
        """For the request that has waited longest, and all that are content with the same; None where nothing is requested."""
        held = self._held()
        while self._requests:
            session = next(iter(self._requests.values())).session
            same = {who: request for who, request in self._requests.items() if request.session == session}
            after, cursor = min(request.after for request in same.values()), held.get(session, NOTHING)
            for who in same:
                del self._requests[who]
            if after < cursor:
                batch = self._batch(session, after, cursor)
                self._requests.update({who: request for who, request in same.items() if request.after >= batch.up_to})
                return batch
        return None

    def _batch(self, session: SessionName, after: int, cursor: int) -> Batch:
        most_bytes = min(BATCH_BYTES, self._max_bytes_per_s)
        each_bytes = KEYFRAME_BYTES + LINK_BYTES + 2 * self._dim
        limit = min(MOST_KEYFRAMES, max(1, int(most_bytes / each_bytes)))
        names = self._map.names_after(*session, after, cursor, limit)
        found = [keyframe for keyframe in map(self._without_picture, names) if keyframe is not None]
        keyframes = fitting(found, most_bytes)
        up_to = cursor if len(names) < limit else names[-1].id
        if len(keyframes) < len(found):
            up_to = keyframes[-1].ref.id
        links = self._map.matches_of([keyframe.ref for keyframe in keyframes])
        return Batch(self.robot, self.model_id, session, after, up_to, keyframes, tuple(links[:MOST_KEYFRAMES]))

    def _keyframe_requests(self, now_s: float) -> list[Request]:
        """What is behind and was asked for least recently comes first; no peer is asked twice at a time, and nothing of two."""
        holders: dict[SessionName, list[str]] = {}
        for name, peer in self._present(now_s).items():
            for session, cursor in peer.cursors.items():
                if cursor > self._cursors.get(session, NOTHING):
                    holders.setdefault(session, []).append(name)
        in_flight = {peer.keyframes.request.session for peer in self._peers.values() if peer.keyframes}
        requests = []
        for session in sorted(holders.keys() - in_flight, key=lambda name: (self._asked_s.get(name, -math.inf), name)):
            free = [name for name in holders[session] if self._peers[name].keyframes is None]
            if free:
                holder = self._best(free, session[0])
                request = Request(self.robot, holder, session, self._cursors.get(session, NOTHING))
                self._peers[holder].keyframes = _Asked(request, now_s)
                self._asked_s[session] = now_s
                requests.append(request)
        return requests

    def _picture_requests(self, now_s: float) -> list[Request]:
        """One to each peer at a time, of one session."""
        in_flight = {
            KeyframeRef(*peer.pictures.request.session, id)
            for peer in self._peers.values()
            if peer.pictures
            for id in peer.pictures.request.pictures
        }
        requests = []
        present = self._present(now_s)
        for ref, wanted in self._wanted.items():
            if ref in in_flight:
                continue
            session = (ref.robot, ref.session)
            free = [
                name
                for name, peer in present.items()
                if peer.pictures is None and peer.cursors.get(session, NOTHING) >= ref.id and name not in wanted.none_at
            ]
            if not free:
                continue
            holder = self._best(free, ref.robot)
            alike = [other for other, w in self._wanted.items() if (other.robot, other.session) == session
                     and holder not in w.none_at and other not in in_flight][-MOST_PICTURES:]  # fmt: skip
            request = Request(self.robot, holder, session, pictures=tuple(other.id for other in alike))
            self._peers[holder].pictures = _Asked(request, now_s)
            in_flight.update(alike)
            requests.append(request)
        return requests

    def _best(self, free: Sequence[str], owner: str) -> str:
        """The robot that made the keyframes, else the peer that failed least."""
        return min(free, key=lambda name: (name != owner, self._peers[name].failures, name))

    # --- peers ------------------------------------------------------------------------------------------------------

    def _heard(self, name: str, now_s: float, model_id: str | None = None) -> _Peer:
        if not name:
            raise ValueError("a message without the name of its sender")
        peer = self._peers.get(name)
        if peer is None:
            if len(self._peers) >= MOST_PEERS:
                del self._peers[min(self._peers, key=lambda known: self._peers[known].heard_s)]
            peer = self._peers[name] = _Peer(now_s)
        peer.heard_s = now_s
        if model_id is not None and model_id != peer.model_id:
            peer.model_id = model_id
            peer.cursors.clear()
        return peer

    def _present(self, now_s: float) -> dict[str, _Peer]:
        """That can be asked for something."""
        return {
            name: peer
            for name, peer in self._peers.items()
            if now_s - peer.heard_s < SILENT_S and now_s >= peer.rests_until_s
        }

    def _give_up(self, now_s: float) -> None:
        """What was not answered has failed; what no query met for long is wanted no more."""
        for peer in self._peers.values():
            if peer.keyframes is not None and now_s - peer.keyframes.since_s >= ANSWER_S:
                peer.cursors.pop(
                    peer.keyframes.request.session, None
                )  # it may have another map by now: it will offer again
                peer.keyframes = None
                peer.failed(now_s)
            if peer.pictures is not None and now_s - peer.pictures.since_s >= ANSWER_S:
                peer.pictures = None
                peer.failed(now_s)
        self._wanted = {ref: wanted for ref, wanted in self._wanted.items() if now_s - wanted.since_s < WANTED_S}

    def has_twin(self, now_s: float) -> bool:
        """Whether another robot of this name was heard lately. Meanwhile nothing is given or taken: the two make one log of two."""
        return now_s - self._twin_s < SILENT_S

    def state(self, now_s: float) -> ExchangeState:
        return ExchangeState(tuple(self._faults(now_s)), tuple(self._reports(now_s)), self._sent_bytes)

    def _faults(self, now_s: float) -> Iterator[str]:
        if self.has_twin(now_s):
            yield f"another robot of the fleet is called {self.robot!r}, too (node.robot): nothing is exchanged until one of them ends"
        for name, peer in self._peers.items():
            if self._is_strange(peer) and now_s - peer.heard_s < SILENT_S:
                yield (
                    f"{name} describes images with another model ({peer.model_id[:12]}, here {self.model_id[:12]}): nothing is "
                    "exchanged with it"
                )

    def _is_strange(self, peer: _Peer) -> bool:
        return peer.model_id not in ("", self.model_id)

    def _reports(self, now_s: float) -> Iterator[PeerReport]:
        for name, peer in sorted(self._peers.items()):
            behind = [
                cursor - known
                for session, cursor in peer.cursors.items()
                if session[0] == name and cursor > (known := self._cursors.get(session, NOTHING))
            ]
            here, silent_s = self._map.count_of(name), now_s - peer.heard_s
            yield PeerReport(name, here, len(behind), sum(behind), silent_s, self._is_strange(peer))
