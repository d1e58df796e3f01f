package sasl

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

	franz "github.com/twmb/franz-go/pkg/sasl"
	franzplain "github.com/twmb/franz-go/pkg/sasl/plain"
	franzscram "github.com/twmb/franz-go/pkg/sasl/scram"
)

const (
	alice  = "alice"
	secret = "alice's pencil, 2 cm"
)

var mechanismNames = []string{Plain, ScramSHA256, ScramSHA512}

// testUsers are alice, bob, who has SCRAM-SHA-512 alone, and one whose name wants to be encoded.
func testUsers(t testing.TB) *Users {
	t.Helper()
	text := must(SetUser(nil, alice, secret, MinIterations))(t)
	text = must(SetUser(text, "a=b,c", secret, MinIterations))(t)
	bob := must(SetUser(nil, "bob", secret, MinIterations))(t)
	_, bob, _ = bytes.Cut(bob, []byte("\n"))
	return must(ParseUsers(append(text, bob...), MaskFrom([]byte("a key"))))(t)
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newTestServer(t testing.TB, mechanism string, users *Users) Server {
	return must(NewServer(t.Context(), mechanism, users, NewGate(0)))(t)
}

func newTestClient(t testing.TB, mechanism, user, password string) Client {
	return must(NewClient(t.Context(), mechanism, Credential{User: user, Password: Secret(password)}, NewGate(0)))(t)
}

// exchange has a client of ours log in at a server of ours. clientDone: the server has proved itself.
func exchange(client Client, server Server) (clientDone bool, err error) {
	var challenge []byte
	serverDone := false
	for range 10 {
		response, done, err := client.Next(challenge)
		if err != nil {
			return false, err
		}
		if done && response == nil {
			return serverDone, nil
		}
		challenge, serverDone, err = server.Next(response)
		if err != nil || done {
			return serverDone && done, err
		}
	}
	return false, errors.New("there is no end")
}

func TestClientsLogInWithThePasswordAlone(t *testing.T) {
	users := testUsers(t)
	for _, mechanism := range mechanismNames {
		for _, user := range []string{alice, "a=b,c"} {
			server := newTestServer(t, mechanism, users)
			done, err := exchange(newTestClient(t, mechanism, user, secret), server)
			if want := (Identity{Principal: user, Mechanism: mechanism}); err != nil || !done || server.Identity() != want {
				t.Errorf("%s: %v, done %v, %+v", mechanism, err, done, server.Identity())
			}
		}
		for _, wrong := range []string{secret + " ", secret[1:], "x", strings.Repeat("x", MaxPassword)} {
			server := newTestServer(t, mechanism, users)
			if _, err := exchange(newTestClient(t, mechanism, alice, wrong), server); err == nil || server.Identity() != (Identity{}) {
				t.Errorf("%s: %q is taken for the password: %+v", mechanism, wrong, server.Identity())
			}
		}
	}
}

// Bob has no SCRAM-SHA-256, but PLAIN by the keys of SCRAM-SHA-512.
func TestUsersHaveTheMechanismsOfTheirLines(t *testing.T) {
	users := testUsers(t)
	for _, mechanism := range mechanismNames {
		_, err := exchange(newTestClient(t, mechanism, "bob", secret), newTestServer(t, mechanism, users))
		if (err == nil) != (mechanism != ScramSHA256) {
			t.Errorf("%s: %v", mechanism, err)
		}
	}
}

// franz-go has written its mechanisms from the RFCs, too.
func franzMechanism(mechanism, user, password string) franz.Mechanism {
	switch mechanism {
	case Plain:
		return franzplain.Auth{User: user, Pass: password}.AsMechanism()
	case ScramSHA256:
		return franzscram.Auth{User: user, Pass: password}.AsSha256Mechanism()
	}
	return franzscram.Auth{User: user, Pass: password}.AsSha512Mechanism()
}

func TestOtherClientsLogIn(t *testing.T) {
	users := testUsers(t)
	for _, mechanism := range mechanismNames {
		for _, password := range []string{secret, "wrong"} {
			server := newTestServer(t, mechanism, users)
			session, message, err := franzMechanism(mechanism, "a=b,c", password).Authenticate(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			answer, done, err := server.Next(message)
			for clientDone := false; err == nil && !clientDone; {
				if clientDone, message, err = session.Challenge(answer); err == nil && !done && len(message) > 0 {
					answer, done, err = server.Next(message)
				}
			}
			if (err == nil) != (password == secret) || (server.Identity().Principal == "a=b,c") != (password == secret) {
				t.Errorf("%s with the password %q: %v, %+v", mechanism, password, err, server.Identity())
			}
		}
	}
}

// TestRFC7677: the example of section 3, in both directions.
func TestRFC7677(t *testing.T) {
	const (
		clientNonce = "rOprNGfwEbeRWgbNEkqO"
		serverNonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
		clientFirst = "n,,n=user,r=" + clientNonce
		serverFirst = "r=" + clientNonce + serverNonce + ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
		clientFinal = "c=biws,r=" + clientNonce + serverNonce + ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
		serverFinal = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
	)
	salt := must(base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ=="))(t)
	c := must(derive(ScramSHA256, "pencil", string(salt), 4096))(t)
	users := must(ParseUsers([]byte(c.line("user")), NewMask()))(t)

	server := must(newScramServer(ScramSHA256, users, serverNonce))(t)
	if out, done, err := server.Next([]byte(clientFirst)); string(out) != serverFirst || done || err != nil {
		t.Fatalf("server-first-message: %q, %v, %v", out, done, err)
	}
	if out, done, err := server.Next([]byte(clientFinal)); string(out) != serverFinal || !done || err != nil {
		t.Fatalf("server-final-message: %q, %v, %v", out, done, err)
	}
	client := must(newScramClient(t.Context(), ScramSHA256, Credential{User: "user", Password: "pencil"}, nil, clientNonce))(t)
	for _, step := range []struct{ challenge, response string }{{"", clientFirst}, {serverFirst, clientFinal}, {serverFinal, ""}} {
		out, done, err := client.Next([]byte(step.challenge))
		if string(out) != step.response || done != (step.challenge == serverFinal) || err != nil {
			t.Fatalf("after %q: %q, %v, %v", step.challenge, out, done, err)
		}
	}
}

// TestRFC4616: the examples of section 4.
func TestRFC4616(t *testing.T) {
	text := must(SetUser(nil, "tim", "tanstaaftanstaaf", MinIterations))(t)
	text = must(SetUser(text, "Kurt", "xipj3plmq", MinIterations))(t)
	users := must(ParseUsers(text, NewMask()))(t)
	if _, done, err := newTestServer(t, Plain, users).Next([]byte("\x00tim\x00tanstaaftanstaaf")); !done || err != nil {
		t.Error(done, err)
	}
	// To act as somebody else is not offered.
	if _, done, err := newTestServer(t, Plain, users).Next([]byte("Ursel\x00Kurt\x00xipj3plmq")); done || err == nil {
		t.Error(done, err)
	}
}

func TestMessagesOfPlainThatAreRefused(t *testing.T) {
	users := testUsers(t)
	const generic = "Authentication failed during authentication due to invalid credentials with SASL mechanism PLAIN"
	for message, text := range map[string]string{
		"":             generic,
		alice:          generic,
		"\x00" + alice: generic,
		"\x00\x00\x00": generic,
		"\x00" + alice + "\x00" + secret + "\x00":                    generic,
		"\x00" + alice + "\x00x\x00" + secret:                        generic,
		"\x00\x00" + secret:                                          "Authentication failed: username not specified",
		"\x00" + alice + "\x00":                                      "Authentication failed: password not specified",
		"bob\x00" + alice + "\x00" + secret:                          "Authentication failed: Client requested an authorization id that is different from username",
		"\x00" + alice + "\x00\xff" + secret:                         generic,
		"\x00" + alice + "\a\x00" + secret:                           generic,
		"\x00" + strings.Repeat("a", MaxName+1) + "\x00" + secret:    generic,
		"\x00" + alice + "\x00" + strings.Repeat("a", MaxPassword+1): generic,
		strings.Repeat("\x00", 1<<20):                                generic,
	} {
		server := newTestServer(t, Plain, users)
		_, done, err := server.Next([]byte(message))
		if done || err == nil || err.Error() != text || server.Identity() != (Identity{}) {
			t.Errorf("%.60q: done %v, %v, not %q", message, done, err, text)
		}
		if failure, is := errors.AsType[*Failure](err); !is || failure.Reason == "" || len(failure.User) > MaxName {
			t.Errorf("%.60q: the log is told %+v", message, failure)
		}
	}
	for _, authorization := range []string{"", alice} {
		message := []byte(authorization + "\x00" + alice + "\x00" + secret)
		server := newTestServer(t, Plain, users)
		if _, done, err := server.Next(message); !done || err != nil {
			t.Error(authorization, done, err)
		}
		if _, done, err := server.Next(message); done || err == nil {
			t.Error("a message after the end is answered")
		}
	}
}

// conversation is what a client of ours and a server of ours say to each other.
func conversation(t testing.TB, mechanism string, users *Users, user, password string) (said [][]byte, _ Server, _ error) {
	client, server := newTestClient(t, mechanism, user, password), newTestServer(t, mechanism, users)
	var answer []byte
	for {
		message, done, err := client.Next(answer)
		if err != nil {
			t.Fatal(err)
		}
		if message == nil {
			return said, server, nil
		}
		said = append(said, message)
		var failure error
		if answer, _, failure = server.Next(message); failure != nil || done {
			return append(said, answer), server, failure
		}
		said = append(said, answer)
	}
}

func TestAnUnknownUserLearnsWhatAWrongPasswordLearns(t *testing.T) {
	users := testUsers(t)
	for _, mechanism := range mechanismNames {
		_, _, wrong := conversation(t, mechanism, users, alice, "wrong")
		said, _, unknown := conversation(t, mechanism, users, "nobody", "wrong")
		var a, b *Failure
		if !errors.As(wrong, &a) || !errors.As(unknown, &b) {
			t.Fatalf("%s: %v, %v", mechanism, wrong, unknown)
		}
		if a.Text != b.Text || a.Error() != a.Text {
			t.Errorf("%s: %q and %q", mechanism, a.Text, b.Text)
		}
		if a.Reason == b.Reason || a.User != alice || b.User != "nobody" {
			t.Errorf("%s: the log does not tell %+v and %+v apart", mechanism, a, b)
		}
		if mechanism == Plain {
			continue
		}
		known, _, _ := conversation(t, mechanism, users, alice, "wrong")
		if !bytes.Equal(said[3], known[3]) {
			t.Errorf("%s: at the end %q and %q", mechanism, said[3], known[3])
		}
		shapeOf := func(first []byte) string {
			fields := strings.Split(string(first), ",")
			return fmt.Sprint(len(fields[0]), len(fields[1]), fields[2])
		}
		if shapeOf(said[1]) != shapeOf(known[1]) {
			t.Errorf("%s: unknown %q, known %q", mechanism, said[1], known[1])
		}
		// The salt of an unknown user is its own, and the same each time, as of one that is known;
		// also after the file has been read again.
		saltOf := func(users *Users, user string) string {
			said, _, _ := conversation(t, mechanism, users, user, "wrong")
			return strings.Split(string(said[1]), ",")[1]
		}
		again := must(ParseUsers(must(SetUser(nil, "carol", "x y z", MinIterations))(t), MaskFrom([]byte("a key"))))(t)
		if salt := saltOf(users, "nobody"); salt != saltOf(users, "nobody") || salt != saltOf(again, "nobody") || salt == saltOf(users, "nobody2") || salt == saltOf(must(ParseUsers(nil, NewMask()))(t), "nobody") {
			t.Errorf("%s: the salts of unknown users can be told from those of known ones", mechanism)
		}
	}
}

// With users whose credentials look different, those of unknown users do, too.
func TestUnknownUsersLookLikeAllKnownOnes(t *testing.T) {
	var text []byte
	for i := range 20 {
		text = must(SetUser(text, fmt.Sprint("user", i), secret, MinIterations+i%2*10))(t)
	}
	users := must(ParseUsers(text, NewMask()))(t)
	for _, mechanism := range mechanismNames {
		seen := map[int]int{}
		for i := range 200 {
			c, known := users.find(kindOf(mechanism), fmt.Sprint("nobody", i))
			if known {
				t.Fatal("is known")
			}
			seen[c.stored.Iters]++
		}
		if len(seen) != 2 || seen[MinIterations] < 50 || seen[MinIterations+10] < 50 {
			t.Errorf("%s: %v", mechanism, seen)
		}
	}
}

// Each login with a password waits for its turn, whoever it is.
func TestLoginsWaitForTheirTurn(t *testing.T) {
	users := testUsers(t)
	for _, user := range []string{alice, "nobody"} {
		synctest.Test(t, func(t *testing.T) {
			gate := NewGate(1)
			gate.turns <- struct{}{} // somebody else has it
			ctx, cancel := context.WithCancelCause(t.Context())
			server := must(NewServer(ctx, Plain, users, gate))(t)
			ended := make(chan error, 1)
			go func() {
				_, _, err := server.Next([]byte("\x00" + user + "\x00" + secret))
				ended <- err
			}()
			synctest.Wait()
			if len(ended) > 0 {
				t.Fatalf("%s did not wait", user)
			}
			cancel(errors.New("the deadline"))
			synctest.Wait()
			if len(ended) == 0 {
				t.Fatalf("%s waits for ever", user)
			}
			if failure, is := errors.AsType[*Failure](<-ended); !is || failure.Reason != "too many logins at once: the deadline" || server.Identity() != (Identity{}) {
				t.Errorf("%s: %+v", user, failure)
			}
			<-gate.turns
			if err := gate.Do(t.Context(), func() {}); err != nil || len(gate.turns) != 0 {
				t.Error("a turn is not given back", err)
			}
		})
	}
	// So does the proxy, as the client of a broker.
	gate := NewGate(1)
	gate.turns <- struct{}{}
	ctx, cancel := context.WithCancelCause(t.Context())
	client := must(NewClient(ctx, ScramSHA256, Credential{User: alice, Password: secret}, gate))(t)
	first, _, _ := client.Next(nil)
	challenge, _, err := newTestServer(t, ScramSHA256, users).Next(first)
	if err != nil {
		t.Fatal(err)
	}
	cancel(errors.New("the deadline"))
	if _, _, err := client.Next(challenge); err == nil || !strings.HasSuffix(err.Error(), "the deadline") {
		t.Error(err)
	}
}

// A gate lets n in at once, and no more.
func TestTheGateIsAsWideAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := NewGate(3)
		in, out := make(chan bool, 10), make(chan bool)
		for range 10 {
			go gate.Do(t.Context(), func() { in <- true; <-out })
		}
		for done := range 10 {
			synctest.Wait()
			if want := min(done+3, 10); len(in) != want {
				t.Fatalf("%d have been let in when %d were done, not %d", len(in), done, want)
			}
			out <- true
		}
	})
	if n := cap(NewGate(0).turns); n != max(runtime.GOMAXPROCS(0)/2, 1) {
		t.Error(n)
	}
}

func TestGS2Headers(t *testing.T) {
	users := testUsers(t)
	const generic = "Authentication failed during authentication due to invalid credentials with SASL mechanism SCRAM-SHA-256"
	for _, c := range []struct{ message, answer, text string }{
		{"n,,n=alice,r=abc", "", ""},
		{"y,,n=alice,r=abc", "", ""}, // "I would, but you do not"
		{"n,a=alice,n=alice,r=abc", "", ""},
		{"n,,n=alice,r=abc,x=y", "", ""}, // extensions that are not known are none
		{"n,,n=alice,r=abc,tokenauth=false", "", ""},
		{"n,,n=alice,r=abc,tokenauth=true", "e=extensions-not-supported", generic},
		{"n,,n=alice,r=abc,tokenauth=TRUE", "e=extensions-not-supported", generic},
		{"n,,n=alice,r=abc,x=y,tokenauth=true", "e=extensions-not-supported", generic},
		{"n,,m=x,n=alice,r=abc", "e=extensions-not-supported", generic},
		{"p=tls-unique,,n=alice,r=abc", "e=channel-binding-not-supported", generic},
		{"p=tls-exporter,,n=alice,r=abc", "e=channel-binding-not-supported", generic},
		{"p=another,,n=alice,r=abc", "e=channel-binding-not-supported", generic},
		{"p=,,n=alice,r=abc", "e=channel-binding-not-supported", generic},
		{"n,a=bob,n=alice,r=abc", "e=other-error", "Authentication failed: Client requested an authorization id that is different from username"},
		{"n,a=bob,n=nobody,r=abc", "e=other-error", "Authentication failed: Client requested an authorization id that is different from username"},
		{"n,alice,n=alice,r=abc", "e=invalid-username-encoding", generic},
		{"n,,n=a=2,r=abc", "e=invalid-username-encoding", generic},
		{"n,,n=a=3Db=2c,r=abc", "e=invalid-username-encoding", generic},
		{"n,,n=,r=abc", "e=invalid-username-encoding", generic},
		{"n,,n=" + strings.Repeat("a", MaxName+1) + ",r=abc", "e=invalid-username-encoding", generic},
		{"n,,n=al\x00ice,r=abc", "e=invalid-encoding", generic},
		{"n,,n=al\xffice,r=abc", "e=invalid-encoding", generic},
		{"n,,n=alice,r=", "e=other-error", generic},
		{"n,,n=alice,r=ab c", "e=other-error", generic},
		{"n,,n=alice,x=abc", "e=other-error", generic},
		{"n,,n=alice,r=abc,", "e=other-error", generic},
		{"n,,n=alice", "e=other-error", generic},
		{"N,,n=alice,r=abc", "e=other-error", generic},
		{"", "e=other-error", generic},
		{"n,,n=alice,r=" + strings.Repeat("a", 1<<20), "e=invalid-encoding", generic},
	} {
		server := newTestServer(t, ScramSHA256, users)
		out, done, err := server.Next([]byte(c.message))
		switch {
		case c.text == "" && (err != nil || !strings.HasPrefix(string(out), "r=abc")):
			t.Errorf("%q: %q %v", c.message, out, err)
		case c.text != "" && (err == nil || err.Error() != c.text || string(out) != c.answer):
			t.Errorf("%.60q: %q, %v; not %q, %q", c.message, out, err, c.answer, c.text)
		}
		if done || server.Identity() != (Identity{}) {
			t.Errorf("%q: logged in", c.message)
		}
		if err != nil {
			_, done, err := server.Next([]byte("n,,n=alice,r=abc"))
			if failure, is := errors.AsType[*Failure](err); done || !is || failure.Reason != errOver {
				t.Errorf("%q: the exchange goes on after its end: %v, %+v", c.message, done, failure)
			}
		}
	}
}

// A login that somebody has listened to is of no use again: neither in the same exchange nor in another.
func TestReplaysAreRefused(t *testing.T) {
	users := testUsers(t)
	for _, mechanism := range mechanismNames[1:] {
		said, server, err := conversation(t, mechanism, users, alice, secret)
		if err != nil || len(said) != 4 {
			t.Fatal(len(said), err)
		}
		if _, done, err := server.Next(said[2]); done || err == nil {
			t.Errorf("%s: a second client-final-message is answered", mechanism)
		}
		again := newTestServer(t, mechanism, users)
		if _, _, err := again.Next(said[0]); err != nil {
			t.Fatal(err)
		}
		if out, done, err := again.Next(said[2]); done || err == nil || again.Identity() != (Identity{}) {
			t.Errorf("%s: a replay logs in: %q", mechanism, out)
		}
		// And with the new nonce in the old message.
		again = newTestServer(t, mechanism, users)
		first, _, _ := again.Next(said[0])
		nonce := bytes.Split(first, []byte(","))[0]
		old := bytes.Split(said[2], []byte(","))
		old[1] = nonce
		if _, done, err := again.Next(bytes.Join(old, []byte(","))); done || err == nil || again.Identity() != (Identity{}) {
			t.Errorf("%s: an old proof logs in", mechanism)
		}
	}
}

// What is cut, or has one byte changed, logs nobody in.
func TestDamagedMessagesLogNobodyIn(t *testing.T) {
	users := testUsers(t)
	damages := func(message []byte) (all [][]byte) {
		for i := range message {
			changed := bytes.Clone(message)
			changed[i] ^= 1
			all = append(all, message[:i], changed)
		}
		return append(all, append(bytes.Clone(message), 'x'), append(bytes.Clone(message), make([]byte, 1<<20)...))
	}
	for _, mechanism := range mechanismNames[1:] {
		final := func() (Server, []byte) {
			client, server := newTestClient(t, mechanism, alice, secret), newTestServer(t, mechanism, users)
			first, _, _ := client.Next(nil)
			challenge, _, err := server.Next(first)
			if err != nil {
				t.Fatal(err)
			}
			message, _, err := client.Next(challenge)
			if err != nil {
				t.Fatal(err)
			}
			return server, message
		}
		server, message := final()
		client := newTestClient(t, mechanism, alice, secret)
		first, _, _ := client.Next(nil)
		inner := server.(*scramServer)
		// The last digit of base64 has bits that count for nothing: they must be zero.
		const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
		last := len(bytes.TrimRight(message, "=")) - 1
		other := bytes.Clone(message)
		other[last] = digits[strings.IndexByte(digits, message[last])+1]
		for _, damaged := range append(damages(message), other) {
			trial := *inner // the same exchange, each time
			talk := *inner.talk
			trial.talk = &talk
			if out, done, err := trial.Next(damaged); done || err == nil || trial.Identity() != (Identity{}) {
				t.Errorf("%s: %.200q logs in: %q", mechanism, damaged, out)
			}
		}
		if _, done, err := server.Next(message); !done || err != nil { // or the loop above has shown nothing
			t.Errorf("%s: the message itself: %v", mechanism, err)
		}
		for _, damaged := range damages(first) {
			if _, done, _ := newTestServer(t, mechanism, users).Next(damaged); done {
				t.Errorf("%s: %q is enough to log in", mechanism, damaged)
			}
		}
	}
	message := []byte("\x00" + alice + "\x00x")
	users = must(ParseUsers(must(SetUser(nil, alice, "x", MinIterations))(t), NewMask()))(t)
	for _, damaged := range damages(message) {
		if _, done, err := newTestServer(t, Plain, users).Next(damaged); done || err == nil {
			t.Errorf("PLAIN: %.100q logs in", damaged)
		}
	}
}

// A proof of another length is as wrong as another, and so is that of another hash.
func TestWrongProofs(t *testing.T) {
	users := testUsers(t)
	for _, proof := range []string{"", "AAAA", base64.StdEncoding.EncodeToString(make([]byte, 32)), base64.StdEncoding.EncodeToString(make([]byte, 64)), "====", "x"} {
		server := newTestServer(t, ScramSHA256, users)
		first, _, err := server.Next([]byte("n,,n=alice,r=abc"))
		if err != nil {
			t.Fatal(err)
		}
		nonce, _, _ := strings.Cut(string(first), ",")
		for _, header := range []string{"biws", "eSws", "", "cD10bHMtdW5pcXVlLCw="} {
			trial := *(server.(*scramServer))
			talk := *trial.talk
			trial.talk = &talk
			if _, done, err := trial.Next([]byte("c=" + header + "," + nonce + ",p=" + proof)); done || err == nil || trial.Identity() != (Identity{}) {
				t.Errorf("c=%s, p=%s logs in", header, proof)
			}
		}
	}
}

func TestBrokersThatAreHostile(t *testing.T) {
	const nonce = "our+nonce"
	for _, c := range []struct{ first, text string }{
		{"r=our+nonce1,s=c2FsdHNhbHQ=,i=4095", "the broker asks for 4095 iterations: 4096 to 100000 are done"},
		{"r=our+nonce1,s=c2FsdHNhbHQ=,i=100001", "the broker asks for 100001 iterations: 4096 to 100000 are done"},
		{"r=our+nonce1,s=c2FsdHNhbHQ=,i=2147483647", "the broker asks for 2147483647 iterations: 4096 to 100000 are done"},
		{"r=our+nonce1,s=c2FsdHNhbHQ=,i=99999999999999999999", "has no iteration count"},
		{"r=our+nonce1,s=c2FsdHNhbHQ=,i=-4096", "has no iteration count"},
		{"r=our+nonce1,s=c2FsdHNhbHQ=,i=+4096", "has no iteration count"},
		{"r=our+nonce1,s=c2FsdHNhbHQ=,i=", "has no iteration count"},
		{"r=our+nonce1,s=c2FsdHNhbHQ=,x", "has no iteration count"},
		{"r=our+nonce1,s=,i=4096", "has no salt"},
		{"r=our+nonce1,s=*****,i=4096", "cannot be read"},
		{"r=our+nonce,s=c2FsdHNhbHQ=,i=4096", "the broker's nonce does not extend the proxy's"},
		{"r=other,s=c2FsdHNhbHQ=,i=4096", "the broker's nonce does not extend the proxy's"},
		{"r=,s=c2FsdHNhbHQ=,i=4096", "has no nonce"},
		{"m=x,r=our+nonce1,s=c2FsdHNhbHQ=,i=4096", "has no nonce"},
		{"e=unknown-user", `the broker refuses the login: "unknown-user"`},
		{"e=" + strings.Repeat("x", 1000), `the broker refuses the login: "` + strings.Repeat("x", 100) + `"`},
		{"e=\x1b[2J", "the message has a control character"},
		{"r=\xff", "the message is not UTF-8"},
		{"", "cannot be read"},
		{strings.Repeat("a", 1<<20), "a message of 1048576 bytes"},
	} {
		client := must(newScramClient(t.Context(), ScramSHA256, Credential{User: alice, Password: secret}, nil, nonce))(t)
		client.Next(nil)
		response, done, err := client.Next([]byte(c.first))
		if err == nil || err.Error() != "SCRAM-SHA-256: server-first-message: "+c.text || done || response != nil {
			t.Errorf("%.80q: %q, %v, %v", c.first, response, done, err)
		}
		// Nor does a second one come to where nobody looks at the iteration count.
		if _, done, err := client.Next([]byte("r=our+nonce1,s=c2FsdHNhbHQ=,i=4096")); done || err == nil || !strings.HasSuffix(err.Error(), "after the end of the exchange") {
			t.Errorf("%.80q: the exchange goes on: %v", c.first, err)
		}
	}
	for _, final := range []string{"", "v=", "v=AAAA", "e=invalid-proof", "e=", "x", "v=" + base64.StdEncoding.EncodeToString(make([]byte, 32)), strings.Repeat("v", 1<<20)} {
		client := must(newScramClient(t.Context(), ScramSHA256, Credential{User: alice, Password: secret}, nil, nonce))(t)
		client.Next(nil)
		if _, _, err := client.Next([]byte("r=our+nonce1,s=c2FsdHNhbHQ=,i=4096")); err != nil {
			t.Fatal(err)
		}
		if _, done, err := client.Next([]byte(final)); done || err == nil || len(err.Error()) > 300 {
			t.Errorf("%.80q: the broker has proved itself: %v", final, err)
		}
	}
}

func TestPlainHasOneMessage(t *testing.T) {
	client := newTestClient(t, Plain, alice, secret)
	if message, done, err := client.Next(nil); string(message) != "\x00"+alice+"\x00"+secret || !done || err != nil {
		t.Errorf("%q, %v, %v", message, done, err)
	}
	for _, challenge := range []string{"", "more"} {
		if message, done, err := client.Next([]byte(challenge)); message != nil || done || err == nil {
			t.Errorf("%q, %v, %v", message, done, err)
		}
	}
}

func TestCredentialsThatCannotBeShown(t *testing.T) {
	for _, c := range []Credential{{}, {User: alice}, {Password: secret}, {User: alice, Password: "\xff"}, {User: "\xff", Password: secret}, {User: alice, Password: Secret(strings.Repeat("x", MaxMessage))}} {
		for _, mechanism := range mechanismNames {
			if client, err := NewClient(t.Context(), mechanism, c, nil); err == nil || client != nil {
				t.Errorf("%s: no error for %+v", mechanism, c)
			} else if c.Password != "" && strings.Contains(err.Error(), c.Password.Reveal()) {
				t.Errorf("%s: the error has the password", mechanism)
			}
		}
	}
	if _, err := NewClient(t.Context(), Plain, Credential{User: alice, Password: "a\x00b"}, nil); err == nil {
		t.Error("a NUL in a password of PLAIN")
	}
	if _, err := NewClient(t.Context(), "GSSAPI", Credential{User: alice, Password: secret}, nil); err == nil {
		t.Error("a mechanism that there is not")
	}
	if server, err := NewServer(t.Context(), "GSSAPI", testUsers(t), nil); err == nil || server != nil {
		t.Error("a mechanism that there is not")
	}
}

// Brokers compare bytes, so a password goes to them as it is; clients that prepare
// (RFC 4013) and those that do not are the same to the proxy.
func TestPasswordsThatAreNotASCII(t *testing.T) {
	client := newTestClient(t, Plain, alice, "ﬁ")
	if message, _, _ := client.Next(nil); string(message) != "\x00alice\x00ﬁ" {
		t.Errorf("%q", message)
	}
	users := must(ParseUsers(must(SetUser(nil, "žofie", "füßchen fi", MinIterations))(t), NewMask()))(t)
	for _, password := range []string{"füßchen fi", "fu\u0308ßchen\u00a0ﬁ"} {
		if _, done, err := newTestServer(t, Plain, users).Next([]byte("\x00z\u030cofie\x00" + password)); !done || err != nil {
			t.Errorf("%q: %v", password, err)
		}
	}
}
