from confluent_kafka import Consumer, Producer

settings = {
    "bootstrap.servers": "bootstrap.kafka.example:9092",
    "security.protocol": "SASL_SSL",
    "ssl.ca.location": "ca.pem",
    "sasl.mechanism": "PLAIN",
    "sasl.username": "alice",
    "sasl.password": "alice-secret",
}


def delivered(error, message):
    if error:
        raise SystemExit(f"not delivered: {error}")


producer = Producer(settings)
producer.produce("greetings", "hello from confluent-kafka", on_delivery=delivered)
producer.flush()

consumer = Consumer(settings | {"group.id": "confluent-kafka", "auto.offset.reset": "earliest"})
consumer.subscribe(["greetings"])
while True:
    message = consumer.poll(1)
    if message is not None and message.error() is None and message.value() == b"hello from confluent-kafka":
        print("read:", message.value().decode())
        break
consumer.close()
