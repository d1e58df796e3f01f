using Confluent.Kafka;

var settings = new ClientConfig
{
    BootstrapServers = "bootstrap.kafka.example:9092",
    SecurityProtocol = SecurityProtocol.SaslSsl,
    SslCaLocation = "ca.pem",
    SaslMechanism = SaslMechanism.Plain,
    SaslUsername = "alice",
    SaslPassword = "alice-secret",
};

using var producer = new ProducerBuilder<Null, string>(settings).Build();
await producer.ProduceAsync("greetings", new Message<Null, string> { Value = "hello from .NET" });
