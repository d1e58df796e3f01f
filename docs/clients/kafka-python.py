from kafka import KafkaConsumer, KafkaProducer

settings = {
    "bootstrap_servers": "bootstrap.kafka.example:9092",
    "security_protocol": "SASL_SSL",
    "ssl_cafile": "ca.pem",
    "sasl_mechanism": "PLAIN",
    "sasl_plain_username": "alice",
    "sasl_plain_password": "alice-secret",
}

producer = KafkaProducer(**settings)
producer.send("greetings", b"hello from kafka-python").get(timeout=30)
producer.close()

consumer = KafkaConsumer("greetings", group_id="kafka-python", auto_offset_reset="earliest", **settings)
for message in consumer:
    if message.value == b"hello from kafka-python":
        print("read:", message.value.decode())
        break
consumer.close()
