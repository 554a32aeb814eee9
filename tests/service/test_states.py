from __future__ import annotations

import json

from service.states import ENDED, NETWORK_STAGES, STAGES, JobState


def test_a_state_is_its_word_in_messages_and_in_json() -> None:
    assert f"{JobState.QUEUED} and %s" % JobState.FAILED == "queued and failed"
    assert json.dumps({"state": JobState.RUNNING}) == '{"state": "running"}'
    assert JobState("succeeded") is JobState.SUCCEEDED


def test_three_states_are_final_and_the_network_is_three_stages_of_a_request() -> None:
    assert [state for state in JobState if state not in ENDED] == [
        "queued",
        "running",
        "cancelling",
    ]
    assert set(NETWORK_STAGES) < set(STAGES)
