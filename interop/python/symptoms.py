"""Connects with librdkafka and with kafka-python, and prints what they say.

    symptoms.py CASE.json

CASE is bootstrap, protocol, and, where they are needed, ca, cert and key,
mechanism, user and password, work and topic. The answer is one JSON object, by client: its errors and
its log. See interop/symptoms.go.
"""

import json
import logging
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

IDLE = 3  # seconds; for longer than connections may be idle
CONSUME = 18  # seconds


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
    if "cert" in case:
        settings |= {"ssl.certificate.location": case["cert"], "ssl.key.location": case["key"]}
    if "mechanism" in case:
        settings |= {"sasl.mechanisms": case["mechanism"], "sasl.username": case["user"], "sasl.password": case["password"]}
    try:
        done = LIBRDKAFKA[case.get("work", "")](case, settings, logger, kept.lines)
        kept.lines.append(f"it worked: {done}")
    except KafkaException as error:
        kept.lines.append(str(error))
    return kept.lines


def librdkafka_describes(case, settings, logger, lines):
    admin = AdminClient(settings, logger=logger)
    admin.poll(0)
    try:
        if case.get("work") == "twice":
            admin.list_topics(timeout=4)
            time.sleep(IDLE)
        return admin.list_topics(timeout=4).brokers
    finally:
        admin.poll(0.1)


def librdkafka_produces(case, settings, logger, lines):
    producer = Producer(settings | {"message.timeout.ms": 4000}, logger=logger)

    def told(error, message):
        if error is not None:
            lines.append(str(error))

    for partition in range(len(producer.list_topics(case["topic"], timeout=4).topics[case["topic"]].partitions)):
        producer.produce(case["topic"], b"x", partition=partition, on_delivery=told)
    return f"{producer.flush(6)} records are left"


def librdkafka_consumes(case, settings, logger, lines):
    # Here as by default, a session is shorter than what requests may take.
    settings |= {"group.id": "librdkafka-symptoms", "session.timeout.ms": 6000, "socket.timeout.ms": 8000}
    consumer = Consumer(settings, logger=logger)
    consumer.subscribe([case["topic"]])
    end = time.monotonic() + CONSUME
    while time.monotonic() < end:
        message = consumer.poll(0.5)
        if message is not None and message.error():
            lines.append(str(message.error()))
    return "consumed"  # not closed: that would wait for the coordinator


LIBRDKAFKA = {"": librdkafka_describes, "twice": librdkafka_describes, "produce": librdkafka_produces, "consume": librdkafka_consumes}


def kafka_python(case):
    kept, logger = Kept(), logging.getLogger("kafka")
    logger.setLevel(logging.INFO)
    logger.addHandler(kept)
    settings = {"bootstrap_servers": case["bootstrap"], "security_protocol": case["protocol"], "request_timeout_ms": 3000}
    if "ca" in case:
        settings["ssl_cafile"] = case["ca"]
    if "cert" in case:
        settings |= {"ssl_certfile": case["cert"], "ssl_keyfile": case["key"]}
    if "mechanism" in case:
        settings |= {"sasl_mechanism": case["mechanism"], "sasl_plain_username": case["user"], "sasl_plain_password": case["password"]}
    for name in ("bootstrap_timeout_ms", "api_version_auto_timeout_ms"):
        if name in KafkaAdminClient.DEFAULT_CONFIG:
            settings[name] = 4000
    try:
        kept.lines.append(f"it worked: {KAFKA_PYTHON[case.get('work', '')](case, settings)}")
    except Exception as error:  # whatever it is, a user sees it
        kept.lines.append(f"{type(error).__name__}: {error}")
    return kept.lines


def kafka_python_describes(case, settings):
    admin = KafkaAdminClient(**settings)
    if case.get("work") == "twice":
        admin.describe_cluster()
        time.sleep(IDLE)
    return admin.describe_cluster()


def kafka_python_produces(case, settings):
    producer = KafkaProducer(**settings, max_block_ms=4000, delivery_timeout_ms=4000)
    sent = [producer.send(case["topic"], b"x", partition=partition) for partition in producer.partitions_for(case["topic"])]
    return [one.get(timeout=6) for one in sent]


def kafka_python_consumes(case, settings):
    consumer = KafkaConsumer(case["topic"], **settings, group_id="kafka-python-symptoms", session_timeout_ms=6000)
    end = time.monotonic() + CONSUME
    while time.monotonic() < end:
        consumer.poll(timeout_ms=500)
    return "consumed"


KAFKA_PYTHON = {"": kafka_python_describes, "twice": kafka_python_describes, "produce": kafka_python_produces, "consume": kafka_python_consumes}

with open(sys.argv[1]) as file:
    case = json.load(file)
with ThreadPoolExecutor() as both:
    said = {"librdkafka": both.submit(librdkafka, case), "kafka-python": both.submit(kafka_python, case)}
    print(json.dumps({who: lines.result() for who, lines in said.items()}), flush=True)
os._exit(0)  # whatever the clients still wait for
