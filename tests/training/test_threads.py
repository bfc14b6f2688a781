from __future__ import annotations

import time

import torch

from freehold.training.threads import candidates, choose_threads


def paced(seconds_per_image):
    """A step whose speed depends on the thread count as told."""

    def step(images):
        time.sleep(images * seconds_per_image[torch.get_num_threads()])

    return step


def test_candidates_are_powers_of_two_and_the_number_of_cores():
    assert candidates(1) == [1]
    assert candidates(6) == [1, 2, 4, 6]
    assert candidates(8) == [1, 2, 4, 8]


def test_the_fastest_count_wins_and_the_choice_is_quick():
    before = torch.get_num_threads()
    try:
        speeds = {1: 4e-3, 2: 2e-3, 3: 1.5e-3, 4: 1e-3, 5: 1.1e-3, 6: 1.2e-3, 8: 2e-3}
        began = time.monotonic()
        assert choose_threads(paced(speeds), 64, cores=8) == 4
        assert time.monotonic() - began < 5
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


def test_a_hopeless_count_ends_the_search_at_once():
    before = torch.get_num_threads()
    try:
        began = time.monotonic()
        assert choose_threads(paced({1: 1e-3, 2: 12e-3}), 64, cores=8) == 1
        assert time.monotonic() - began < 5
    finally:
        torch.set_num_threads(before)
