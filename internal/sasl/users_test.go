package sasl

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// What a server keeps of the example of RFC 7677 (user "user", password "pencil"), as RFC 5803 and PostgreSQL write it.
const postgres = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

func TestLinesArePostgreSQLs(t *testing.T) {
	users, err := ParseUsers([]byte("user:"+postgres+"\n"), NewMask())
	if err != nil {
		t.Fatal(err)
	}
	for _, mechanism := range []string{Plain, ScramSHA256} {
		if _, err := exchange(newTestClient(t, mechanism, "user", "pencil"), newTestServer(t, mechanism, users)); err != nil {
			t.Errorf("%s: %v", mechanism, err)
		}
	}
}

func TestAllMistakesOfAFileAreTold(t *testing.T) {
	good := strings.Replace(postgres, "4096", "%s", 1)
	lines := []string{
		"# a comment", "", "  \t", " # another",
		"alice:" + postgres,
		"alice:" + postgres,                             // 6
		"bob:hunter2",                                   // 7
		"carol",                                         // 8
		":" + postgres,                                  // 9
		"dave:" + fmt.Sprintf(good, "4095"),             // 10
		"dave:" + fmt.Sprintf(good, "100001"),           // 11
		"dave:" + fmt.Sprintf(good, "x"),                // 12
		"dave:SCRAM-SHA-512" + postgres[13:],            // 13
		"a:b:" + postgres,                               // 14
		"e\a:" + postgres,                               // 15
		" f:" + postgres,                                // 16
		"ﬁ:" + postgres,                                 // 17
		"g:" + postgres + "x",                           // 18
		"h:SCRAM-SHA-256$4096:c2FsdA==$AAAA:AAAA",       // 19
		"i:SCRAM-SHA-256$4096",                          // 20
		"j:" + strings.Repeat("x", 5000),                // 21
		strings.Repeat("k", MaxName+1) + ":" + postgres, // 22
		"l:" + postgres + "\r",
		"m:" + postgres[:len(postgres)-2] + "V=", // 24: bits after the end
	}
	_, err := ParseUsers([]byte(strings.Join(lines, "\n")), NewMask())
	wrong, is := err.(UsersErrors)
	if !is {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, err := range wrong {
		fmt.Fprintln(&got, err)
	}
	want := `line 6: user "alice" has SCRAM-SHA-256 already in line 5
line 7: user "bob": has neither SCRAM-SHA-256$ nor SCRAM-SHA-512$ after the first colon: passwords are not written here, passwd derives the keys
line 8: is no USER:SCRAM-SHA-256$…: passwd writes such lines
line 9: the name is empty
line 10: user "dave": the iteration count is not one of 4096 to 100000
line 11: user "dave": the iteration count is not one of 4096 to 100000
line 12: user "dave": the iteration count is not one of 4096 to 100000
line 13: user "dave": StoredKey is not base64 of 64 bytes
line 14: user "a": has neither SCRAM-SHA-256$ nor SCRAM-SHA-512$ after the first colon: passwords are not written here, passwd derives the keys
line 15: the name has a character that no name may have: prohibited character
line 16: the name begins or ends with a space
line 17: the name can be written in several ways: write it "fi"
line 18: user "g": ServerKey is not base64 of 32 bytes
line 19: user "h": the salt is not base64 of 8 to 128 bytes
line 20: user "i": has not the form SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>
line 21: the line has 5002 bytes: it may have 4096
line 22: the name has 256 bytes: it may have 255
line 24: user "m": ServerKey is not base64 of 32 bytes
`
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Error("a password is in an error")
	}
}

func TestFilesAreBounded(t *testing.T) {
	var text bytes.Buffer
	for i := range MaxUsers {
		fmt.Fprintf(&text, "user%d:%s\n", i, postgres)
	}
	users, err := ParseUsers(text.Bytes(), NewMask())
	if err != nil || users.Len() != MaxUsers {
		t.Fatal(err)
	}
	text.WriteString("more:" + postgres + "\nmuch-more:" + postgres + "\n")
	if _, err := ParseUsers(text.Bytes(), NewMask()); err == nil || err.Error() != "line 100001: the file has more than 100000 users" {
		t.Error(err)
	}
	if _, err := ParseUsers(make([]byte, MaxUsersFile+1), NewMask()); err == nil {
		t.Error("a file of any length is read")
	}
	_, err = ParseUsers(bytes.Repeat([]byte("x\n"), 10_000), NewMask())
	if wrong, is := err.(UsersErrors); !is || len(wrong) != 101 || wrong[100].Error() != "and 9900 more mistakes" {
		t.Error(err)
	}
}

func TestUsersAreEqualWhenTheirPasswordsAre(t *testing.T) {
	parse := func(text string) *Users { return must(ParseUsers([]byte(text), NewMask()))(t) }
	a := "a:" + postgres + "\n"
	b := string(must(SetUser(nil, "b", secret, MinIterations))(t))
	b2 := string(must(SetUser(nil, "b", secret, MinIterations))(t)) // another salt
	if !parse(a + b).Equal(parse("# new\n" + b + "\n" + a)) {
		t.Error("comments and order make a difference")
	}
	for _, other := range []string{a, b, a + b2, "", strings.Replace(a, "$WG5d", "$XG5d", 1) + b, strings.Replace(a, ":wfPL", ":xfPL", 1) + b, strings.Replace(a+b, "4096", "4097", 1)} {
		if parse(a+b).Equal(parse(other)) || parse(other).Equal(parse(a+b)) {
			t.Errorf("equal to\n%s", other)
		}
	}
	was := parse(a + b)
	for _, c := range []struct {
		now  string
		a, b bool
	}{{a + b, true, true}, {a + b2, true, false}, {b, false, true}, {"", false, false}} {
		now := parse(c.now)
		if was.Unchanged(now, ScramSHA256, "a") != c.a || was.Unchanged(now, Plain, "b") != c.b || was.Unchanged(now, ScramSHA512, "a") {
			t.Errorf("after %q", c.now)
		}
	}
	if !was.Has(Plain, "a") || was.Has(ScramSHA512, "a") || was.Has(Plain, "c") || was.Count(ScramSHA512) != 1 || was.Count(Plain) != 2 || was.Len() != 2 {
		t.Error("who is there")
	}
}

func TestSetUserKeepsEverythingElse(t *testing.T) {
	text := "# people\nalice:" + postgres + "\n\nbob:" + postgres + "\n# alice: left, and came back\nalice:SCRAM-SHA-512$old\nalicea:" + postgres
	out := string(must(SetUser([]byte(text), "alice", "new", MinIterations))(t))
	lines := strings.Split(out, "\n")
	if len(lines) != 7 || lines[0] != "# people" || lines[3] != "" || lines[4] != "bob:"+postgres || lines[5] != "# alice: left, and came back" || lines[6] != "alicea:"+postgres {
		t.Errorf("%q", lines)
	}
	if !strings.HasPrefix(lines[1], "alice:SCRAM-SHA-256$4096:") || !strings.HasPrefix(lines[2], "alice:SCRAM-SHA-512$4096:") {
		t.Errorf("%q", lines)
	}
	users := must(ParseUsers([]byte(out), NewMask()))(t)
	for _, mechanism := range mechanismNames {
		if _, err := exchange(newTestClient(t, mechanism, "alice", "new"), newTestServer(t, mechanism, users)); err != nil {
			t.Error(err)
		}
	}
	// A new one comes last, on lines of its own.
	out2 := string(must(SetUser([]byte(out), "carol", "new", MinIterations))(t))
	if !strings.HasPrefix(out2, out+"\ncarol:SCRAM-SHA-256$") || !strings.HasSuffix(out2, "\n") {
		t.Errorf("%q", out2)
	}
	back, had := DeleteUser([]byte(out2), "carol")
	if !had || string(back) != out+"\n" {
		t.Errorf("%v %q", had, back)
	}
	if same, had := DeleteUser([]byte(out), "carol"); had || string(same) != out {
		t.Errorf("%v %q", had, same)
	}
	// Lines end as they did.
	windows := string(must(SetUser([]byte("a:"+postgres+"\r\n"), "b", "new", MinIterations))(t))
	if strings.Count(windows, "\r\n") != 3 || strings.Count(windows, "\n") != 3 {
		t.Errorf("%q", windows)
	}
}

func TestEachLineHasASaltOfItsOwn(t *testing.T) {
	seen := map[string]bool{}
	for range 3 {
		for line := range strings.Lines(string(must(SetUser(nil, alice, secret, MinIterations))(t))) {
			_, rest, _ := strings.Cut(line, "$")
			factors, _, _ := strings.Cut(rest, "$")
			if seen[factors] {
				t.Errorf("%s twice", factors)
			}
			seen[factors] = true
		}
	}
	if len(seen) != 6 {
		t.Error(seen)
	}
}

func TestWhatCannotBeSet(t *testing.T) {
	for _, c := range []struct {
		user, password string
		iterations     int
		text           string
	}{
		{"", secret, 8192, "the name is empty"},
		{"a:b", secret, 8192, "the name has a colon, which ends the name in the file"},
		{"#a", secret, 8192, "the name begins with #, as comments do in the file"},
		{" a", secret, 8192, "the name begins or ends with a space"},
		{"a\nb", secret, 8192, "the name has a character that no name may have: prohibited character"},
		{"a\xff", secret, 8192, "the name is not UTF-8"},
		{"Ⅸ", secret, 8192, `the name can be written in several ways: write it "IX"`},
		{alice, "", 8192, "the password is empty"},
		{alice, "   ", 8192, "the password is nothing but spaces"},
		{alice, "a\x00b", 8192, "the password has a character that no password may have: prohibited character"},
		{alice, "\xff", 8192, "the password is not UTF-8"},
		{alice, "Ⅸ", 8192, "the password has characters that clients write in several ways (RFC 4013): choose others"},
		{alice, strings.Repeat("x", 4097), 8192, "the password has 4097 bytes: it may have 4096"},
		{alice, secret, 4095, "4095 iterations: 4096 to 100000 are possible"},
		{alice, secret, 100_001, "100001 iterations: 4096 to 100000 are possible"},
	} {
		if out, err := SetUser(nil, c.user, Secret(c.password), c.iterations); err == nil || err.Error() != c.text || out != nil {
			t.Errorf("%q %q: %v", c.user, c.password, err)
		}
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	const password = "pa55word"
	c := Credential{User: "alice", Password: password, Token: password}
	client := newTestClient(t, Plain, "alice", password)
	scramClient := newTestClient(t, ScramSHA256, "alice", password)
	scramClient.Next(nil)
	users := must(ParseUsers([]byte("user:"+postgres), NewMask()))(t)
	server := newTestServer(t, ScramSHA256, users)
	server.Next([]byte("n,,n=user,r=abc"))
	type holder struct {
		Client     Client
		client     Client
		Credential Credential
		Pointer    *Credential
		Any        any
		Many       []Secret
		Map        map[string]Secret
	}
	h := holder{client, client, c, &c, c, []Secret{password}, map[string]Secret{"a": password}}
	for _, v := range []any{c, &c, c.Password, &c.Password, []Secret{password}, h, &h, client, scramClient, server, users} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%q", "%s", "%x", "%X", "%d", "%T", "%10.3s", "%t"} {
			text := fmt.Sprintf(verb, v)
			for _, bad := range []string{password, fmt.Sprintf("%x", password), fmt.Sprintf("%X", password), fmt.Sprint([]byte(password)), "WG5d8oPm"} {
				if strings.Contains(text, bad) {
					t.Errorf("%s of %T: %s", verb, v, text)
				}
			}
		}
		text, err := json.Marshal(v)
		if err != nil || bytes.Contains(text, []byte(password)) {
			t.Errorf("JSON: %s %v", text, err)
		}
		var log bytes.Buffer
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v)
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
		if strings.Contains(log.String(), password) {
			t.Errorf("log: %s", log.String())
		}
	}
	if fmt.Sprint(c.Password) != "***" || fmt.Sprintf("%#v", Secret("")) != "***" || c.Password.Reveal() != password {
		t.Error("what is printed is not ***")
	}
	if value := c.Password.LogValue(); value.String() != "***" {
		t.Error(value)
	}
}

func FuzzUsers(f *testing.F) {
	f.Add("alice:" + postgres + "\n# x\n\nbob:" + postgres)
	f.Add("a:SCRAM-SHA-512$8192:" + base64.StdEncoding.EncodeToString(make([]byte, 16)) + "$x:y")
	f.Fuzz(func(t *testing.T, text string) {
		users, err := ParseUsers([]byte(text), Mask{})
		if err != nil {
			return
		}
		// What has been read can be edited, and means the same.
		for name := range users.byName {
			out, had := DeleteUser([]byte(text), name)
			rest, err := ParseUsers(out, Mask{})
			if !had || err != nil || rest.Len() != users.Len()-1 {
				t.Fatalf("without %q: %v %v", name, had, err)
			}
			break
		}
		out, _ := replaceUser([]byte(text), "new", []string{"new:" + postgres})
		if more, err := ParseUsers(out, Mask{}); err != nil || !more.Has(ScramSHA256, "new") {
			t.Fatal(err)
		}
	})
}

func FuzzPlainServer(f *testing.F) {
	users := must(ParseUsers([]byte("user:"+postgres), Mask{}))(f)
	f.Add([]byte("\x00user\x00pencil"))
	f.Add([]byte("user\x00user\x00x"))
	f.Fuzz(func(t *testing.T, message []byte) {
		server := newTestServer(t, Plain, users)
		_, done, err := server.Next(message)
		m, failure := parsePlain(message)
		right := failure == nil && m.name == "user" && m.password == "pencil"
		if done != (err == nil) || right && !done {
			t.Fatalf("%q: %v %v", message, done, err)
		}
		if done && server.Identity().Principal != "user" {
			t.Fatalf("%q logs in as %+v", message, server.Identity())
		}
	})
}

func FuzzScramServer(f *testing.F) {
	users := must(ParseUsers([]byte("user:"+postgres), Mask{}))(f)
	f.Add([]byte("n,,n=user,r=abc"), []byte("c=biws,r=abcxyz,p=AAAA"))
	f.Add([]byte("y,a=user,n=us=2Cer,r=abc,tokenauth=true"), []byte("c=eSws,r=abcxyz,x=y,p=AAAA"))
	f.Fuzz(func(t *testing.T, first, final []byte) {
		server := must(newScramServer(ScramSHA256, users, "xyz"))(t)
		if _, done, err := server.Next(first); done || err != nil {
			if done || server.Identity() != (Identity{}) {
				t.Fatalf("%q logs in", first)
			}
			return
		}
		if _, done, err := server.Next(final); done || err == nil || server.Identity() != (Identity{}) {
			t.Fatalf("%q, %q: %v", first, final, err) // nobody finds the proof
		}
	})
}

func FuzzScramClient(f *testing.F) {
	f.Add([]byte("r=abcxyz,s=c2FsdHNhbHQ=,i=4096"), []byte("v=AAAA"))
	f.Add([]byte("e=other-error"), []byte("e=x"))
	f.Fuzz(func(t *testing.T, first, final []byte) {
		client := must(newScramClient(t.Context(), ScramSHA256, Credential{User: "user", Password: "pencil"}, nil, "abc"))(t)
		client.Next(nil)
		_, _, err := client.Next(first)
		if _, done, err2 := client.Next(final); done || err2 == nil {
			t.Fatalf("%q, %q: the broker has proved itself", first, final)
		} else if len(err2.Error()) > 600 || err != nil && len(err.Error()) > 600 {
			t.Fatal("the error has what the broker has sent")
		}
	})
}

// BenchmarkLogin is what one login costs, by mechanism and iteration count: of a client of ours, of the
// proxy as the server, and, of PLAIN, of a user that does not exist.
func BenchmarkLogin(b *testing.B) {
	for _, iterations := range []int{4096, 8192} {
		users := must(ParseUsers(must(SetUser(nil, alice, secret, iterations))(b), NewMask()))(b)
		for _, user := range []string{alice, "nobody"} {
			b.Run(fmt.Sprintf("PLAIN server/%d/%s", iterations, user), func(b *testing.B) {
				for b.Loop() {
					newTestServer(b, Plain, users).Next([]byte("\x00" + user + "\x00" + secret))
				}
			})
		}
		for _, mechanism := range []string{ScramSHA256, ScramSHA512} {
			b.Run(fmt.Sprintf("%s both/%d", mechanism, iterations), func(b *testing.B) {
				for b.Loop() {
					if _, err := exchange(newTestClient(b, mechanism, alice, secret), newTestServer(b, mechanism, users)); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(fmt.Sprintf("%s server/%d", mechanism, iterations), func(b *testing.B) {
				for b.Loop() {
					server := newTestServer(b, mechanism, users)
					first, _, _ := server.Next([]byte("n,,n=" + alice + ",r=abc"))
					nonce, _, _ := bytes.Cut(first, []byte(","))
					server.Next([]byte("c=biws," + string(nonce) + ",p=AAAA"))
				}
			})
		}
	}
}
