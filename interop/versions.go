package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

var sentRequest = regexp.MustCompile(`Sending ([A-Z_]+) request with header RequestHeader\(apiKey=[A-Z_]+, apiVersion=([0-9]+),`)

// usedVersions reads the versions that Java clients sent requests in off their
// DEBUG logs, the last one of each API.
func usedVersions(logs ...string) (map[string]string, error) {
	used := map[string]string{}
	for _, path := range logs {
		err := eachLine(path, func(line string) {
			if m := sentRequest.FindStringSubmatch(line); m != nil {
				used[m[1]] = m[2]
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return used, nil
}

// notOffered are the newest versions that clients are offered where the broker
// offers newer ones: DescribeQuorum 2 would tell where the controllers are.
var notOffered = map[int16]int16{kmsg.DescribeQuorum.Int16(): 1}

// compareOffers asks a broker and the proxy what they offer and wants both to
// say the same, but for notOffered.
func (s *scenarioRun) compareOffers(ctx context.Context) error {
	direct, err := s.offers(ctx, s.directTLS)
	if err != nil {
		return err
	}
	proxied, err := s.offers(ctx, s.tls)
	if err != nil {
		return err
	}
	for key, newest := range notOffered {
		offer := direct[key]
		offer.MaxVersion = min(offer.MaxVersion, newest)
		direct[key] = offer
	}
	var problems []error
	for _, key := range slices.Sorted(maps.Keys(direct)) {
		want, got := direct[key], proxied[key]
		if got.MinVersion != want.MinVersion || got.MaxVersion != want.MaxVersion {
			problems = append(problems, fmt.Errorf("the proxy offers %s %d–%d, want %d–%d",
				kmsg.NameForKey(key), got.MinVersion, got.MaxVersion, want.MinVersion, want.MaxVersion))
		}
	}
	if len(proxied) != len(direct) {
		problems = append(problems, fmt.Errorf("the proxy offers %d APIs, the broker %d", len(proxied), len(direct)))
	}
	return errors.Join(problems...)
}

func (s *scenarioRun) offers(ctx context.Context, e *endpoint) (map[int16]kmsg.ApiVersionsResponseApiKey, error) {
	client, err := s.goClient(e)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	request := kmsg.NewPtrApiVersionsRequest()
	request.ClientSoftwareName, request.ClientSoftwareVersion = "interop", "1"
	response, err := request.RequestWith(ctx, client)
	if err != nil {
		return nil, err
	}
	offers := map[int16]kmsg.ApiVersionsResponseApiKey{}
	for _, offer := range response.ApiKeys {
		offers[offer.ApiKey] = offer
	}
	if len(offers) < 30 {
		return nil, fmt.Errorf("%s offers only %d APIs", e.name, len(offers))
	}
	return offers, nil
}

func eachLine(path string, take func(string)) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, 16<<20)
	for scanner.Scan() {
		take(scanner.Text())
	}
	return scanner.Err()
}
