"""Pages: reuse by content, the order of eviction, neighbours. Knows no scheduler."""

from __future__ import annotations

from array import array
from dataclasses import replace

import pytest

from engine.scheduler.block_pool import BlockPool, PageKey, page_key


def keys_of(*pages: tuple[int, ...]) -> list[PageKey]:
    keys: list[PageKey] = []
    for page in pages:
        keys.append(page_key(keys[-1] if keys else None, array("q", page).tobytes()))
    return keys


def store(pool: BlockPool, keys: list[PageKey]) -> list[int]:
    """Pages that one request computed, published and gave back."""
    block_ids = pool.allocate(len(keys))
    for block_id, key in zip(block_ids, keys, strict=True):
        pool.publish(block_id, key)
    pool.release(block_ids)
    return block_ids


def test_the_longest_stored_prefix_is_found():
    pool = BlockPool(8, 2)
    stored = store(pool, keys_of((1, 2), (3, 4), (5, 6)))
    assert pool.match(keys_of((1, 2), (3, 4), (5, 7))) == stored[:2]
    assert pool.match(keys_of((9, 2), (3, 4))) == []


def test_the_same_tokens_behind_another_prefix_are_another_page():
    pool = BlockPool(8, 2)
    store(pool, keys_of((1, 2), (3, 4)))
    assert pool.match(keys_of((3, 4))) == []
    assert pool.match(keys_of((3, 4), (3, 4))) == []


@pytest.mark.parametrize("field", ["tokens", "parent"])
def test_equal_digests_of_different_content_do_not_match(field):
    pool = BlockPool(8, 2)
    [key] = keys_of((1, 2))
    store(pool, [key])
    assert pool.match([replace(key, **{field: b"other"})]) == []
    assert pool.match([key]) != []


def test_pages_without_content_are_free_again_and_the_others_reusable():
    pool = BlockPool(8, 2)
    block_ids = pool.allocate(3)
    pool.publish(block_ids[0], keys_of((1, 2))[0])
    pool.release(block_ids)
    assert (pool.num_free, pool.num_reusable, pool.num_used) == (7, 1, 0)


def test_the_least_recently_used_page_is_given_up_first_and_a_tail_before_its_beginning():
    pool = BlockPool(4, 2)
    first = keys_of((1, 1), (1, 2))
    second = keys_of((2, 1), (2, 2))
    store(pool, first)
    store(pool, second)
    again = pool.match(first)
    pool.acquire(again)
    pool.release(again)
    kept = []
    for _ in range(4):
        pool.allocate(1)
        kept.append((len(pool.match(first)), len(pool.match(second))))
    assert kept == [(2, 1), (2, 0), (1, 0), (0, 0)]


def test_a_held_page_is_never_given_up():
    pool = BlockPool(4, 2)
    keys = keys_of((1, 1), (1, 2))
    held = store(pool, keys)
    pool.acquire(held)
    assert set(pool.allocate(2)).isdisjoint(held)
    assert pool.num_available == 0
    assert pool.match(keys) == held


def test_more_pages_than_are_available_are_a_mistake_of_the_caller():
    pool = BlockPool(4, 2)
    pool.allocate(3)
    with pytest.raises(AssertionError, match="2 pages asked for, 1 available"):
        pool.allocate(2)


def test_two_copies_of_one_content_are_stored_once_and_found_as_long_as_either_is_held():
    pool = BlockPool(8, 2)
    keys = keys_of((1, 2))
    one, two = pool.allocate(1), pool.allocate(1)
    pool.publish(one[0], keys[0])
    pool.publish(two[0], keys[0])
    assert pool.match(keys) == one
    pool.release(one)
    pool.release(two)
    assert pool.match(keys) == two
    assert (pool.num_reusable, pool.num_free) == (1, 7)


def test_a_copy_takes_the_place_of_a_content_that_was_given_up():
    pool = BlockPool(3, 2)
    keys = keys_of((1, 2))
    one, two = pool.allocate(1), pool.allocate(1)
    pool.publish(one[0], keys[0])
    pool.publish(two[0], keys[0])
    pool.release(one)
    pool.release(pool.allocate(2))  # gives up the page of `one`
    assert pool.match(keys) == []
    pool.release(two)
    assert pool.match(keys) == two


def test_pages_are_neighbours_and_go_on_behind_the_last_one():
    pool = BlockPool(64, 2)
    mine = pool.allocate(3, room=10)
    other = pool.allocate(2, room=10, keep_clear=[range(mine[-1] + 1, mine[-1] + 8)])
    mine += pool.allocate(7, after=mine[-1], room=7)
    other += pool.allocate(8, after=other[-1], room=8)
    assert mine == list(range(mine[0], mine[0] + 10))
    assert other == list(range(other[0], other[0] + 10))


def test_neighbours_are_found_in_a_pool_that_is_full_of_old_prefixes():
    pool = BlockPool(32, 2)
    for start in range(0, 32, 8):
        store(pool, keys_of(*((start, n) for n in range(8))))
    assert pool.num_free == 0
    mine = pool.allocate(2, room=8)
    for _ in range(6):
        mine += pool.allocate(1, after=mine[-1], room=8 - len(mine))
    assert mine == list(range(mine[0], mine[0] + 8))
    assert pool.num_reusable == 24


def test_nothing_is_given_up_while_a_neighbour_is_free():
    pool = BlockPool(8, 2)
    store(pool, keys_of((1, 1), (1, 2)))
    mine = pool.allocate(1, room=1)
    mine += pool.allocate(1, after=mine[-1], room=8)
    assert (mine, pool.num_reusable) == ([2, 3], 2)


def test_room_that_must_be_kept_clear_is_used_before_a_request_is_refused():
    pool = BlockPool(4, 2)
    mine = pool.allocate(1, room=4)
    assert sorted(pool.allocate(3, room=3, keep_clear=[range(1, 4)])) == [1, 2, 3]
    assert mine == [0]


def test_clear_forgets_every_prefix():
    pool = BlockPool(8, 2)
    keys = keys_of((1, 2), (3, 4))
    store(pool, keys)
    pool.clear()
    assert pool.match(keys) == []
    assert (pool.num_free, pool.num_reusable) == (8, 0)


def test_clear_refuses_while_pages_are_held():
    pool = BlockPool(8, 2)
    pool.allocate(1)
    with pytest.raises(AssertionError, match="in use"):
        pool.clear()


def test_a_page_cannot_be_released_more_often_than_held():
    pool = BlockPool(8, 2)
    pages = pool.allocate(1)
    pool.release(pages)
    with pytest.raises(AssertionError):
        pool.release(pages)
