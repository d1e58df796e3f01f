// Command franz-go sends one record through the proxy and reads it.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log"
	"os"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
)

func main() {
	ca, err := os.ReadFile("ca.pem")
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	client, err := kgo.NewClient(
		kgo.SeedBrokers("bootstrap.kafka.example:9092"),
		kgo.DialTLSConfig(&tls.Config{RootCAs: roots}), // no ServerName: franz-go sets each broker's
		kgo.SASL(plain.Auth{User: "alice", Pass: "alice-secret"}.AsMechanism()),
		kgo.ConsumerGroup("franz-go"),
		kgo.ConsumeTopics("greetings"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	ctx := context.Background()
	const hello = "hello from franz-go"
	record := &kgo.Record{Topic: "greetings", Value: []byte(hello)}
	if err := client.ProduceSync(ctx, record).FirstErr(); err != nil {
		log.Fatal(err)
	}
	for {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			log.Fatal(err)
		}
		for r := range fetches.RecordsAll() {
			if string(r.Value) == hello {
				fmt.Println("read:", hello)
				return
			}
		}
	}
}
