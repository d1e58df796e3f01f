package harness

import (
	"bytes"
	"fmt"
	"math/rand/v2"
)

const recordFormat = "record %d of partition %d "

// longest is how long a record's value can be.
const longest = 64 << 10

// filler is text, so that a console consumer shows something, without the
// patterns that TLS or disks might like. It is the same in every run.
var filler = func() []byte {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	b := make([]byte, 2*longest)
	for r, i := rand.New(rand.NewPCG(1, 2)), 0; i < len(b); i++ {
		b[i] = letters[r.IntN(len(letters))]
	}
	return b
}()

// Filler returns up to 64 KiB of text that no compressor likes. It is not to be
// changed.
func Filler(size int) []byte { return filler[:size:size] }

// AppendRecord appends the value of the n-th record of a partition, of that many
// bytes. Which one it is can be read off its beginning, and every byte of the rest
// depends on it: see [ReadRecord].
func AppendRecord(b []byte, partition int32, n int64, size int) []byte {
	begin := len(b)
	b = fmt.Appendf(b, recordFormat, n, partition)
	at := int(n*31+int64(partition)*977) % longest
	return append(b, filler[at:at+size-(len(b)-begin)]...)
}

// ReadRecord says which record a value is. It is false for a value that
// [AppendRecord] cannot have made, for instance a damaged one.
func ReadRecord(value []byte) (partition int32, n int64, ok bool) {
	if _, err := fmt.Sscanf(string(value[:min(len(value), 80)]), recordFormat, &n, &partition); err != nil || n < 0 || partition < 0 || len(value) > longest {
		return 0, 0, false
	}
	if len(fmt.Sprintf(recordFormat, n, partition)) > len(value) {
		return 0, 0, false
	}
	return partition, n, bytes.Equal(value, AppendRecord(nil, partition, n, len(value)))
}
