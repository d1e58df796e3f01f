package main

import (
	"bufio"
	"os"
	"regexp"
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
