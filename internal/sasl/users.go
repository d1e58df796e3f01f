package sasl

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/xdg-go/scram"
)

// A file of users has a line for each user and mechanism:
//
//	USER:SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>
//
// with salt and keys in base64. What follows the name is the format of RFC 5803, in
// which PostgreSQL keeps passwords, too. Empty lines and lines that begin with #
// are comments. There is no password in it; but who knows StoredKey and can listen
// to a login can log in, and who knows ServerKey can pretend to be the server.

// The bounds of a file of users.
const (
	MaxUsers         = 100_000
	MaxUsersFile     = 64 << 20 // bytes
	maxUsersLine     = 4096     // bytes
	maxUsersMistakes = 100      // that are told
	minSalt, maxSalt = 8, 128   // bytes
	// DefaultIterations is the iteration count of new passwords.
	DefaultIterations = 8192
	newSalt           = 16 // bytes
)

// The kinds of logins. What is asked of a user differs by them, and so does what an
// unknown user is shown.
type kind int

const (
	kind256 kind = iota
	kind512
	kindPlain
	kinds
)

func kindOf(mechanism string) kind {
	switch mechanism {
	case ScramSHA256:
		return kind256
	case ScramSHA512:
		return kind512
	}
	return kindPlain
}

// salted is a password as it is kept: what RFC 5802 has a server keep.
type salted struct {
	mechanism string
	stored    scram.StoredCredentials
}

// derive makes what is kept of a password: one PBKDF2.
func derive(mechanism, password, salt string, iterations int) (salted, error) {
	client, err := hashOf(mechanism).NewClientUnprepped("", password, "")
	if err != nil {
		return salted{}, err
	}
	stored, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: salt, Iters: iterations})
	return salted{mechanism, stored}, err
}

// matches reports whether a password is the one that is kept.
func (c *salted) matches(password string) bool {
	other, err := derive(c.mechanism, password, c.stored.Salt, c.stored.Iters)
	return err == nil && subtle.ConstantTimeCompare(other.stored.StoredKey, c.stored.StoredKey) == 1
}

func (c *salted) equal(o *salted) bool {
	if c == nil || o == nil {
		return c == o
	}
	return c.stored.KeyFactors == o.stored.KeyFactors && bytes.Equal(c.stored.StoredKey, o.stored.StoredKey) && bytes.Equal(c.stored.ServerKey, o.stored.ServerKey)
}

// credentials are what is kept of one user, by hash.
type credentials [2]*salted

// of returns the credential for a kind of login. PLAIN takes that of SHA-256, which
// is the faster one, if there is one.
func (c *credentials) of(k kind) *salted {
	switch {
	case c == nil:
		return nil
	case k == kindPlain && c[kind256] != nil:
		return c[kind256]
	case k == kindPlain:
		return c[kind512]
	}
	return c[k]
}

// Mask is a secret, from which the salts of users that do not exist are made: the
// same salt each time that somebody asks. Who can ask with two masks, as after a
// restart or of two copies, can tell which users exist: their salts are the same.
type Mask [32]byte

// MaskFrom returns the mask that is made of a secret that all copies of the proxy
// have, and keep over restarts, such as the private key of a listener. It tells
// nothing of the secret.
func MaskFrom(secret []byte) (m Mask) {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("salts of users that do not exist"))
	return Mask(mac.Sum(nil))
}

// NewMask returns a new one, for where there is no such secret. A process needs one,
// which outlives each reading of the files.
func NewMask() (m Mask) {
	rand.Read(m[:]) // never fails
	return m
}

// Users are the users of a file. They never change.
type Users struct {
	byName map[string]*credentials
	mask   Mask
	shapes [kinds][]shape
}

// Len is how many users there are.
func (u *Users) Len() int { return len(u.byName) }

// Count is how many users can log in with a mechanism.
func (u *Users) Count(mechanism string) (n int) {
	for _, c := range u.byName {
		if c.of(kindOf(mechanism)) != nil {
			n++
		}
	}
	return n
}

// Has reports whether a user can log in with a mechanism.
func (u *Users) Has(mechanism, name string) bool {
	return u.byName[name].of(kindOf(mechanism)) != nil
}

// Equal reports whether both are the same users with the same passwords.
func (u *Users) Equal(o *Users) bool {
	return maps.EqualFunc(u.byName, o.byName, func(a, b *credentials) bool {
		return a[kind256].equal(b[kind256]) && a[kind512].equal(b[kind512])
	})
}

// Unchanged reports whether a user, who has logged in with these users, could do so
// with others by the same password.
func (u *Users) Unchanged(o *Users, mechanism, name string) bool {
	was := u.byName[name].of(kindOf(mechanism))
	return was != nil && was.equal(o.byName[name].of(kindOf(mechanism)))
}

// find returns what is kept of a user, or, if there is no such user, something that
// looks the same and that no password matches. Both are made each time, so that
// both take the same time.
func (u *Users) find(k kind, name string) (c *salted, known bool) {
	c = u.pretend(k, name)
	if is := u.byName[name].of(k); is != nil {
		return is, true
	}
	return c, false
}

// shape is what a client can tell credentials apart by.
type shape struct {
	mechanism        string
	iterations, salt int // salt in bytes
	upTo             int // how many users have this shape, or one before it
}

// pretend makes the credential of a user that does not exist. Its shape is that of
// a known user, frequent ones more often.
func (u *Users) pretend(k kind, name string) *salted {
	like := u.shapes[k][0]
	pick := binary.BigEndian.Uint64(u.derived(k, "shape", name))
	shapes := u.shapes[k]
	at := int(pick % uint64(shapes[len(shapes)-1].upTo))
	for _, s := range shapes {
		if at < s.upTo {
			like = s
			break
		}
	}
	salt := slices.Concat(u.derived(k, "salt", name), u.derived(k, "more salt", name))[:like.salt]
	size := hashOf(like.mechanism)().Size()
	return &salted{like.mechanism, scram.StoredCredentials{
		KeyFactors: scram.KeyFactors{Salt: string(salt), Iters: like.iterations},
		StoredKey:  u.derived(k, "stored", name)[:size],
		ServerKey:  u.derived(k, "server", name)[:size],
	}}
}

// derived is 64 bytes that nobody can foretell without the mask.
func (u *Users) derived(k kind, use, name string) []byte {
	mac := hmac.New(sha512.New, u.mask[:])
	fmt.Fprintf(mac, "%d %s\x00%s", k, use, name)
	return mac.Sum(nil)
}

// countShapes notes what the credentials for each kind of login look like.
func (u *Users) countShapes() {
	for k := range kinds {
		counts := map[shape]int{}
		for _, c := range u.byName {
			if is := c.of(k); is != nil {
				counts[shape{mechanism: is.mechanism, iterations: is.stored.Iters, salt: len(is.stored.Salt)}]++
			}
		}
		if len(counts) == 0 {
			mechanism := ScramSHA256
			if k == kind512 {
				mechanism = ScramSHA512
			}
			counts[shape{mechanism: mechanism, iterations: DefaultIterations, salt: newSalt}] = 1
		}
		total := 0
		for _, s := range slices.SortedFunc(maps.Keys(counts), compareShapes) {
			total += counts[s]
			s.upTo = total
			u.shapes[k] = append(u.shapes[k], s)
		}
	}
}

func compareShapes(a, b shape) int {
	return cmp.Or(cmp.Compare(a.mechanism, b.mechanism), cmp.Compare(a.iterations, b.iterations), cmp.Compare(a.salt, b.salt))
}

// UsersErrors are all mistakes of a file of users, at most 100.
type UsersErrors []error

func (e UsersErrors) Error() string   { return errors.Join(e...).Error() }
func (e UsersErrors) Unwrap() []error { return e }

// ParseUsers reads a file of users. An error is a UsersErrors, each with its line; it
// never has a key in it.
func ParseUsers(text []byte, mask Mask) (*Users, error) {
	u := &Users{byName: map[string]*credentials{}, mask: mask}
	if len(text) > MaxUsersFile {
		return nil, UsersErrors{fmt.Errorf("the file has %d bytes: it may have %d", len(text), MaxUsersFile)}
	}
	var wrong UsersErrors
	more := 0
	mistake := func(line int, err error) {
		if len(wrong) == maxUsersMistakes {
			more++
			return
		}
		wrong = append(wrong, fmt.Errorf("line %d: %w", line, err))
	}
	type lineOf struct {
		name string
		kind kind
	}
	lines := map[lineOf]int{}
	number := 0
	for line := range bytes.SplitSeq(text, []byte("\n")) {
		number++
		name, c, err := parseUserLine(line)
		if err != nil {
			mistake(number, err)
			continue
		}
		if name == "" {
			continue
		}
		key := lineOf{name, kindOf(c.mechanism)}
		if first := lines[key]; first > 0 {
			mistake(number, fmt.Errorf("user %q has %s already in line %d", name, c.mechanism, first))
			continue
		}
		if u.byName[name] == nil {
			if len(u.byName) == MaxUsers {
				mistake(number, fmt.Errorf("the file has more than %d users", MaxUsers))
				break
			}
			u.byName[name] = new(credentials)
		}
		lines[key] = number
		u.byName[name][key.kind] = c
	}
	if more > 0 {
		wrong = append(wrong, fmt.Errorf("and %d more mistakes", more))
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	u.countShapes()
	return u, nil
}

// parseUserLine reads one line. name is "" if it is a comment.
func parseUserLine(line []byte) (name string, _ *salted, _ error) {
	line = bytes.TrimSuffix(line, []byte("\r"))
	if blank := bytes.TrimSpace(line); len(blank) == 0 || blank[0] == '#' {
		return "", nil, nil
	}
	if len(line) > maxUsersLine {
		return "", nil, fmt.Errorf("the line has %d bytes: it may have %d", len(line), maxUsersLine)
	}
	name, rest, has := strings.Cut(string(line), ":")
	if !has {
		return "", nil, errors.New("is no USER:SCRAM-SHA-256$…: passwd writes such lines")
	}
	if err := CheckUser(name); err != nil {
		return "", nil, err
	}
	c, err := parseSalted(rest)
	if err != nil {
		return "", nil, fmt.Errorf("user %q: %w", name, err)
	}
	return name, c, nil
}

// parseSalted reads SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>.
func parseSalted(text string) (*salted, error) {
	mechanism, rest, has := strings.Cut(text, "$")
	if mechanism != ScramSHA256 && mechanism != ScramSHA512 {
		// And not a word of it: it may be a password.
		return nil, errors.New("has neither SCRAM-SHA-256$ nor SCRAM-SHA-512$ after the first colon: passwords are not written here, passwd derives the keys")
	}
	factors, keys, has2 := strings.Cut(rest, "$")
	count, salt64, has3 := strings.Cut(factors, ":")
	stored64, server64, has4 := strings.Cut(keys, ":")
	if !has || !has2 || !has3 || !has4 {
		return nil, fmt.Errorf("has not the form %s$<iterations>:<salt>$<StoredKey>:<ServerKey>", mechanism)
	}
	iterations, err := strconv.Atoi(count)
	if err != nil || iterations < MinIterations || iterations > MaxIterations {
		return nil, fmt.Errorf("the iteration count is not one of %d to %d", MinIterations, MaxIterations)
	}
	salt, err := base64.StdEncoding.Strict().DecodeString(salt64)
	if err != nil || len(salt) < minSalt || len(salt) > maxSalt {
		return nil, fmt.Errorf("the salt is not base64 of %d to %d bytes", minSalt, maxSalt)
	}
	size := sha256.Size
	if mechanism == ScramSHA512 {
		size = sha512.Size
	}
	stored, err := base64.StdEncoding.Strict().DecodeString(stored64)
	if err != nil || len(stored) != size {
		return nil, fmt.Errorf("StoredKey is not base64 of %d bytes", size)
	}
	server, err := base64.StdEncoding.Strict().DecodeString(server64)
	if err != nil || len(server) != size {
		return nil, fmt.Errorf("ServerKey is not base64 of %d bytes", size)
	}
	return &salted{mechanism, scram.StoredCredentials{
		KeyFactors: scram.KeyFactors{Salt: string(salt), Iters: iterations}, StoredKey: stored, ServerKey: server,
	}}, nil
}

// line is the credential as a line of a file.
func (c *salted) line(user string) string {
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("%s:%s$%d:%s$%s:%s", user, c.mechanism, c.stored.Iters, encode([]byte(c.stored.Salt)), encode(c.stored.StoredKey), encode(c.stored.ServerKey))
}

// SetUser returns the text of a file in which the user has this password: a line for
// SCRAM-SHA-256 and one for SCRAM-SHA-512, where the user's lines were, or at the
// end. Everything else stays as it is.
func SetUser(text []byte, user string, password Secret, iterations int) ([]byte, error) {
	if err := CheckUser(user); err != nil {
		return nil, err
	}
	if err := CheckPassword(password); err != nil {
		return nil, err
	}
	if iterations < MinIterations || iterations > MaxIterations {
		return nil, fmt.Errorf("%d iterations: %d to %d are possible", iterations, MinIterations, MaxIterations)
	}
	var lines []string
	for _, mechanism := range []string{ScramSHA256, ScramSHA512} {
		salt := make([]byte, newSalt) // one of its own, or one key would tell of the other
		rand.Read(salt)               // never fails
		c, err := derive(mechanism, password.Reveal(), string(salt), iterations)
		if err != nil {
			return nil, err
		}
		lines = append(lines, c.line(user))
	}
	out, _ := replaceUser(text, user, lines)
	return out, nil
}

// DeleteUser returns the text of a file without a user, and whether the user was in it.
func DeleteUser(text []byte, user string) ([]byte, bool) { return replaceUser(text, user, nil) }

// replaceUser puts lines where the first line of a user is, and leaves out the others.
func replaceUser(text []byte, user string, lines []string) (out []byte, had bool) {
	end := "\n"
	if first, _, _ := bytes.Cut(text, []byte("\n")); bytes.HasSuffix(first, []byte("\r")) {
		end = "\r\n"
	}
	put := func() {
		for _, line := range lines {
			out = append(out, line+end...)
		}
		lines = nil
	}
	for line := range bytes.Lines(text) {
		name, _, has := bytes.Cut(line, []byte(":"))
		if has && string(name) == user {
			had = true
			put()
			continue
		}
		out = append(out, line...)
	}
	if len(lines) > 0 && len(out) > 0 && !bytes.HasSuffix(out, []byte("\n")) {
		out = append(out, end...)
	}
	put()
	return out, had
}
