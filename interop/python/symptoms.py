"""Connects with librdkafka and with kafka-python, and prints what they say.

    symptoms.py CASE.json

CASE is bootstrap, protocol, and, where they are needed, ca, mechanism, user and
password. The answer is one JSON object, by client: its errors and its log. See
interop/symptoms.go.
"""

import json
import logging
import sys

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from kafka import KafkaAdminClient


class Kept(logging.Handler):
    """Keeps what is logged."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


def librdkafka(case):
    kept, logger = Kept(), logging.getLogger("librdkafka")
    logger.addHandler(kept)
    settings = {
        "bootstrap.servers": case["bootstrap"],
        "security.protocol": case["protocol"],
        "error_cb": lambda error: kept.lines.append(str(error)),
        "socket.timeout.ms": 3000,
    }
    if "ca" in case:
        settings["ssl.ca.location"] = case["ca"]
    if "mechanism" in case:
        settings |= {"sasl.mechanisms": case["mechanism"], "sasl.username": case["user"], "sasl.password": case["password"]}
    try:
        admin = AdminClient(settings, logger=logger)
        admin.poll(0)
        topics = admin.list_topics(timeout=4)
        kept.lines.append(f"it worked: {topics.brokers}")
    except KafkaException as error:
        kept.lines.append(str(error))
    admin.poll(0.1)
    return kept.lines


def kafka_python(case):
    kept, logger = Kept(), logging.getLogger("kafka")
    logger.setLevel(logging.INFO)
    logger.addHandler(kept)
    settings = {"bootstrap_servers": case["bootstrap"], "security_protocol": case["protocol"], "request_timeout_ms": 3000}
    if "ca" in case:
        settings["ssl_cafile"] = case["ca"]
    if "mechanism" in case:
        settings |= {"sasl_mechanism": case["mechanism"], "sasl_plain_username": case["user"], "sasl_plain_password": case["password"]}
    try:
        for name in ("bootstrap_timeout_ms", "api_version_auto_timeout_ms"):
            if name in KafkaAdminClient.DEFAULT_CONFIG:
                settings[name] = 4000
        admin = KafkaAdminClient(**settings)
        kept.lines.append(f"it worked: {admin.describe_cluster()}")
    except Exception as error:  # whatever it is, a user sees it
        kept.lines.append(f"{type(error).__name__}: {error}")
    return kept.lines


with open(sys.argv[1]) as file:
    case = json.load(file)
print(json.dumps({"librdkafka": librdkafka(case), "kafka-python": kafka_python(case)}), flush=True)
