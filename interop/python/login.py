"""Logs in with confluent-kafka (librdkafka) or kafka-python, writes a record to one topic and is
refused by another.

    login.py MAKER BOOTSTRAP CA MECHANISM USER PASSWORD TOPIC FORBIDDEN

See interop/authentication.go.
"""

import sys

maker, bootstrap, ca, mechanism, user, password, topic, forbidden = sys.argv[1:]


def confluent():
    from confluent_kafka import KafkaError, Producer

    producer = Producer({
        "bootstrap.servers": bootstrap, "security.protocol": "SASL_SSL", "ssl.ca.location": ca,
        "sasl.mechanisms": mechanism, "sasl.username": user, "sasl.password": password, "message.timeout.ms": 20000,
    })
    errors = {}
    for name in (topic, forbidden):
        producer.produce(name, b"x", on_delivery=lambda error, message: errors.update({message.topic(): error}))
    producer.flush(25)
    return errors.get(topic, "nothing") is None and errors[forbidden].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED, errors


def kafka_python():
    from kafka import KafkaProducer
    from kafka.errors import TopicAuthorizationFailedError

    producer = KafkaProducer(
        bootstrap_servers=bootstrap, security_protocol="SASL_SSL", ssl_cafile=ca, sasl_mechanism=mechanism,
        sasl_plain_username=user, sasl_plain_password=password, max_block_ms=15000,
    )
    producer.send(topic, b"x").get(20)
    try:
        producer.send(forbidden, b"x").get(20)
    except TopicAuthorizationFailedError:
        return True, ""
    return False, "it was let in"


good, said = confluent() if maker == "confluent-kafka" else kafka_python()
print("written, and refused elsewhere" if good else f"not as it should be: {said}")
