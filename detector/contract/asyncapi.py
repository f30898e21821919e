"""The AsyncAPI 3.0 document of what crosses Kafka, generated from the types (https://www.asyncapi.com, version 3.0.0)."""

from typing import Any, Final

import msgspec

from detector.contract.alerts import Alert
from detector.contract.dead_letters import OUR_HEADERS
from detector.contract.events import SessionAction
from detector.contract.explanations import Explanation
from detector.contract.headers import (
    ACTION_TYPE,
    ALERT_TYPE,
    CLOUD_EVENT_HEADERS,
    EXPLANATION_TYPE,
    VERDICT_TYPE,
)
from detector.contract.listings import AccountListing
from detector.contract.topics import (
    ACTIONS_TOPIC,
    ALERTS_TOPIC,
    VERDICTS_TOPIC,
    dead_letter_topic,
    explanations_topic,
    shadow_topic,
)
from detector.contract.verdicts import Verdict

VERSION: Final = "1.0.0"
"""Of the contract, not of the software: the first number changes when readers or writers break."""

_OF_INPUT = "the account id, UTF-8"
_OF_OUTPUT = "the session id, UTF-8"
_DESCRIPTION = (
    "Write user actions to the first channel, read decisions from the second with isolation.level=read_committed, and write "
    "what became of them to the third. "
    "Fields that a reader does not know are to be ignored."
)


def asyncapi() -> dict[str, Any]:
    """Return the document: channels, operations as the detector sees them, messages with key, headers and payload."""
    (action, listing, alert, explanation, verdict), schemas = msgspec.json.schema_components(
        [SessionAction, AccountListing, Alert, Explanation, Verdict],
        ref_template="#/components/schemas/{name}",
    )
    messages = {
        "sessionAction": _message("One action of a session", action, ACTION_TYPE, _OF_INPUT),
        "accountListing": _message(
            "From here on, how an account's sessions are judged", listing, None, _OF_INPUT
        ),
        "sessionVerdict": _message("What a session was found to be", verdict, VERDICT_TYPE, _OF_INPUT),
        "sessionAlert": _message("A decision on a session", alert, ALERT_TYPE),
        "alertExplanation": _message(
            "What each action added to an alert's score", explanation, EXPLANATION_TYPE
        ),
        "deadLetter": {
            "title": "A record of the input that could not be scored",
            "contentType": "application/octet-stream",
            "headers": {
                "type": "object",
                "properties": {
                    name: {"type": "string", "description": text} for name, text in OUR_HEADERS.items()
                },
            },
            "payload": {"description": "the original's bytes"},
            "bindings": {"kafka": {"key": {"type": "string", "description": "the original's"}}},
        },
    }
    channels = {
        "sessionActions": _channel(
            ACTIONS_TOPIC, "What users do", ["sessionAction", "accountListing", "sessionVerdict"]
        ),
        "sessionAlerts": _channel(ALERTS_TOPIC, "Decisions, exactly once", ["sessionAlert"]),
        "sessionVerdicts": _channel(VERDICTS_TOPIC, "What became of the alerts", ["sessionVerdict"]),
        "shadowAlerts": _channel(
            shadow_topic(ALERTS_TOPIC), "What a challenger in shadow would block", ["sessionAlert"]
        ),
        "alertExplanations": _channel(
            explanations_topic(ALERTS_TOPIC), "Why, by `detector explain --follow`", ["alertExplanation"]
        ),
        "deadLetters": _channel(dead_letter_topic(ACTIONS_TOPIC), "What could not be scored", ["deadLetter"]),
    }
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Session fraud detector", "version": VERSION, "description": _DESCRIPTION},
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": {
            "scoreActions": _operation("receive", "sessionActions", "Rescores the session on every action"),
            "relayVerdicts": _operation(
                "receive",
                "sessionVerdicts",
                "By `detector relay-verdicts`, once each into every partition of the input",
            ),
            "publishAlerts": _operation(
                "send", "sessionAlerts", "At most one alert of a kind for each session"
            ),
            "publishShadowAlerts": _operation(
                "send", "shadowAlerts", "With a challenger only; decides nothing"
            ),
            "explainAlerts": _operation(
                "send", "alertExplanations", "At least once: the alert's id tells what came again"
            ),
            "keepDeadLetters": _operation("send", "deadLetters", "Loses nothing, scores nothing twice"),
        },
        "components": {"messages": messages, "schemas": schemas},
    }


def _message(
    title: str, payload: dict[str, Any], event_type: str | None, key: str = _OF_OUTPUT
) -> dict[str, Any]:
    message: dict[str, Any] = {
        "title": title,
        "contentType": "application/json",
        "payload": payload,
        "bindings": {
            "kafka": {"key": {"type": "string", "description": f"{key}; murmur2 of it chooses the partition"}}
        },
    }
    if event_type is not None:
        described: dict[str, Any] = {
            name: {"type": "string", "description": text} for name, text in CLOUD_EVENT_HEADERS.items()
        }
        described["ce_type"]["const"] = event_type
        message["headers"] = {"type": "object", "properties": described}
    return message


def _channel(topic: str, title: str, messages: list[str]) -> dict[str, Any]:
    return {
        "address": topic,
        "title": title,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
    }


def _operation(action: str, channel: str, summary: str) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}
