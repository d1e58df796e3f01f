// Command sarama sends one record through the proxy and reads it.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log"
	"os"

	"github.com/IBM/sarama"
)

func main() {
	ca, err := os.ReadFile("ca.pem")
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)

	config := sarama.NewConfig()
	config.Net.TLS.Enable = true
	config.Net.TLS.Config = &tls.Config{RootCAs: roots} // no ServerName: Sarama sets each broker's
	config.Net.SASL.Enable = true
	config.Net.SASL.Mechanism = sarama.SASLTypePlaintext
	config.Net.SASL.User = "alice"
	config.Net.SASL.Password = "alice-secret"
	config.Producer.Return.Successes = true

	client, err := sarama.NewClient([]string{"bootstrap.kafka.example:9092"}, config)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	producer, err := sarama.NewSyncProducerFromClient(client)
	if err != nil {
		log.Fatal(err)
	}
	const hello = "hello from Sarama"
	message := &sarama.ProducerMessage{Topic: "greetings", Value: sarama.StringEncoder(hello)}
	partition, offset, err := producer.SendMessage(message)
	if err != nil {
		log.Fatal(err)
	}

	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		log.Fatal(err)
	}
	records, err := consumer.ConsumePartition("greetings", partition, offset)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("read:", string((<-records.Messages()).Value))
}
