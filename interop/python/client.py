"""The librdkafka clients of the interop run.

    client.py produce SETTINGS TOPIC TAG PER-SECOND
    client.py consume SETTINGS TOPIC GROUP PAUSE-MS

They say and take the same lines as those in interop/java: the producer runs
until its standard input ends; the consumer ends once it has seen as many
distinct records as the order "until N" says, and pauses after each poll before
that. Whatever librdkafka reports as an error is one line "failed …".
librdkafka's own log goes to standard error.
"""

import sys
import threading
import time

from confluent_kafka import Consumer, Producer


def say(line):
    print(line, flush=True)


def settings(path, **more):
    with open(path) as file:
        pairs = dict(line.rstrip("\n").split("=", 1) for line in file)
    pairs["error_cb"] = lambda error: say(f"failed {error}")
    pairs.update((key.replace("_", "."), value) for key, value in more.items())
    return pairs


def produce(path, topic, tag, per_second):
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    producer = Producer(settings(path, acks="all", enable_idempotence=True, linger_ms=5))
    sent = acked = slowest = 0

    def report(error, message):
        nonlocal acked, slowest
        if error is not None:
            say(f"failed {error}")
            return
        acked += 1
        slowest = max(slowest, int(message.latency() * 1000))
        if acked % 500 == 0:
            say(f"progress {acked}")

    begin = time.monotonic()
    while not ended.is_set():
        producer.produce(topic, f"{tag}:{sent}:{'x' * 100}", key=f"{tag}{sent}", on_delivery=report)
        sent += 1
        producer.poll(max(0, begin + sent / float(per_second) - time.monotonic()))
    producer.flush()
    say(f"done sent={sent} acked={acked} slowest-ack-ms={slowest}")


def consume(path, topic, group, pause_ms):
    until = None

    def orders():
        nonlocal until
        for line in sys.stdin:
            until = int(line.removeprefix("until "))

    threading.Thread(target=orders, daemon=True).start()
    consumer = Consumer(settings(path, group_id=group, auto_offset_reset="earliest"))
    consumer.subscribe([topic])
    records, seen = 0, set()
    while until is None or len(seen) < until:
        for message in consumer.consume(100, timeout=0.2):
            if message.error() is not None:
                say(f"failed {message.error()}")
                continue
            seen.add(message.value().rsplit(b":", 1)[0])
            records += 1
            if records % 500 == 0:
                say(f"progress {records}")
        if until is None:
            time.sleep(int(pause_ms) / 1000)
    consumer.close()
    say(f"done records={records} distinct={len(seen)} duplicates={records - len(seen)}")


if __name__ == "__main__":
    {"produce": produce, "consume": consume}[sys.argv[1]](*sys.argv[2:])
