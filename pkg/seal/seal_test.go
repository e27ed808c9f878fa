package seal

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
)

func mustKey(t testing.TB, fill byte) Key {
	t.Helper()
	secret := bytes.Repeat([]byte{fill}, KeyBytes)
	secret[0]++
	k, err := ParseKey(hex.EncodeToString(secret))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func mustRing(t testing.TB, seals bool, keys ...Key) *Ring {
	t.Helper()
	r, err := NewRing(seals, keys...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestParseKey(t *testing.T) {
	secret := make([]byte, KeyBytes)
	for i := range secret {
		secret[i] = byte(255 - i)
	}
	want, err := ParseKey(hex.EncodeToString(secret))
	if err != nil {
		t.Fatal(err)
	}
	good := func(text string) {
		t.Helper()
		if k, err := ParseKey(text); err != nil || k.ID() != want.ID() || !bytes.Equal(k.secret, secret) {
			t.Errorf("ParseKey(%q) = %v, %v; want %v", text, k, err, want)
		}
	}
	good(strings.ToUpper(hex.EncodeToString(secret)))
	good(base64.StdEncoding.EncodeToString(secret))
	good(base64.RawStdEncoding.EncodeToString(secret))
	good(base64.URLEncoding.EncodeToString(secret))
	good("  " + base64.RawURLEncoding.EncodeToString(secret) + "\r\n")

	bad := func(text string) {
		t.Helper()
		_, err := ParseKey(text)
		if err == nil {
			t.Fatalf("ParseKey(%q) gave no error", text)
		}
		if text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("ParseKey(%q): the error shows it: %v", text, err)
		}
	}
	bad("")
	bad("hunter2")
	bad(hex.EncodeToString(secret[:31]))
	bad(base64.StdEncoding.EncodeToString(append(secret, 1)))
	bad(strings.Repeat("00", 32))
	bad(strings.Repeat("é", 32))

	if a, b := NewKey(), NewKey(); a == b {
		t.Errorf("NewKey gave %q twice", a)
	}
	if _, err := ParseKey(NewKey()); err != nil {
		t.Errorf("ParseKey(NewKey()): %v", err)
	}
}

func TestKeyDoesNotPrint(t *testing.T) {
	k := mustKey(t, 'K')
	asJSON, err := json.Marshal(struct{ K Key }{k})
	if err != nil {
		t.Fatal(err)
	}
	for _, printed := range []string{
		fmt.Sprint(k), fmt.Sprintf("%+v %#v %s %q %x %d", k, k, k, k, k, k), fmt.Sprintf("%+v", []Key{k}), string(asJSON), k.LogValue().String(),
	} {
		if strings.Contains(printed, "KKKK") || strings.Contains(printed, hex.EncodeToString([]byte("KKKK"))) || strings.Contains(printed, "75 75 75") {
			t.Errorf("printed %q, which shows the key", printed)
		}
		if !strings.Contains(printed, k.ID().String()) {
			t.Errorf("printed %q, want the id %s", printed, k.ID())
		}
	}
}

func TestBoxOpensWhatItSealed(t *testing.T) {
	one, two := mustKey(t, 1), mustKey(t, 2)
	name := Name{Kind: 'b', IDs: [3]uint64{1, 2, 3}, Text: "crm"}
	old := mustRing(t, true, one).Box("store")
	f := func(plain string) {
		t.Helper()
		sealed := old.Seal([]byte("before"), []byte(plain), name)[len("before"):]
		if len(sealed) != len(plain)+Overhead {
			t.Errorf("%q sealed has %d bytes, want %d", plain, len(sealed), len(plain)+Overhead)
		}
		if len(plain) > 3 && bytes.Contains(sealed, []byte(plain)) {
			t.Errorf("%q stands in what is sealed: %q", plain, sealed)
		}
		if id, err := ID(sealed); err != nil || id != one.ID() {
			t.Errorf("ID = %v, %v; want %v", id, err, one.ID())
		}
		// A later start with another key in front, and one that seals no more.
		for _, ring := range []*Ring{mustRing(t, true, two, one), mustRing(t, false, one)} {
			if got, err := ring.Box("store").Open([]byte("x"), sealed, name); err != nil || string(got) != "x"+plain {
				t.Errorf("opened %q, %v; want x and %q behind it", got, err, plain)
			}
		}
		got, err := old.Open(sealed[:0], sealed, name)
		if err != nil || string(got) != plain {
			t.Errorf("opened in place %q, %v; want %q", got, err, plain)
		}
	}
	f("")
	f("a")
	f(strings.Repeat("jane@example.com ", 100))
}

func TestBoxRefusesWhatIsNotTheSame(t *testing.T) {
	one, two := mustKey(t, 1), mustKey(t, 2)
	box := mustRing(t, true, one).Box("store")
	name := Name{Kind: 'b', IDs: [3]uint64{1, 2, 3}, Text: "crm"}
	sealed := box.Seal(nil, []byte("jane@example.com"), name)

	f := func(what string, b *Box, sealed []byte, name Name, want error) {
		t.Helper()
		if got, err := b.Open(nil, sealed, name); !errors.Is(err, want) || got != nil {
			t.Errorf("%s: Open = %q, %v; want %v", what, got, err, want)
		}
	}
	f("another kind", box, sealed, Name{Kind: 'o', IDs: name.IDs, Text: name.Text}, ErrSealed)
	f("another row", box, sealed, Name{Kind: 'b', IDs: [3]uint64{1, 2, 4}, Text: name.Text}, ErrSealed)
	f("another text", box, sealed, Name{Kind: 'b', IDs: name.IDs, Text: "crn"}, ErrSealed)
	f("another purpose", mustRing(t, true, one).Box("log"), sealed, name, ErrSealed)
	f("another key", mustRing(t, true, two).Box("store"), sealed, name, ErrKey)
	f("no key", nil, sealed, name, ErrKey)
	f("plain text", box, []byte("jane@example.com, of which nothing was ever sealed by anybody at all"), name, ErrSealed)
	for i := range sealed {
		f(fmt.Sprintf("cut at %d", i), box, sealed[:i], name, ErrSealed)
		flipped := bytes.Clone(sealed)
		flipped[i] ^= 1
		want := ErrSealed
		if i >= 1 && i < 1+len(KeyID{}) {
			want = ErrKey
		}
		f(fmt.Sprintf("flipped at %d", i), box, flipped, name, want)
	}
}

func TestRing(t *testing.T) {
	one, two := mustKey(t, 1), mustKey(t, 2)
	if r := mustRing(t, true); r != nil {
		t.Errorf("a ring without keys is %v, want nil", r)
	}
	var none *Ring
	if _, ok := none.Sealing(); ok || none.Has(one.ID()) || none.IDs() != nil || none.Box("log").Seals() {
		t.Error("a nil ring has keys")
	}
	r := mustRing(t, true, one, two, one)
	if id, ok := r.Sealing(); !ok || id != one.ID() || !r.Has(two.ID()) || len(r.IDs()) != 2 {
		t.Errorf("ring of %v: sealing %v %v, ids %v", []Key{one, two, one}, id, ok, r.IDs())
	}
	if off := mustRing(t, false, one); off.Box("log").Seals() || !off.Box("log").Has(one.ID()) {
		t.Error("a ring of old keys seals, or does not open")
	}
	if id, err := ParseKeyID(one.ID().String()); err != nil || id != one.ID() {
		t.Errorf("ParseKeyID(%s) = %v, %v", one.ID(), id, err)
	}
	if _, err := ParseKeyID("0102"); err == nil {
		t.Error("ParseKeyID of two bytes gave no error")
	}
}

// A session that is used up gives way to another, and what it sealed stays readable.
func TestSessionIsUsedUp(t *testing.T) {
	ring := mustRing(t, true, mustKey(t, 1))
	box := ring.Box("log")
	box.now.Load().left.Store(10)
	var mu sync.Mutex
	salts := map[[headBytes]byte]int{}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 5 {
				name := Name{Kind: 'r', IDs: [3]uint64{uint64(g), uint64(i)}}
				sealed := box.Seal(nil, []byte("text"), name)
				if got, err := ring.Box("log").Open(nil, sealed, name); err != nil || string(got) != "text" {
					t.Errorf("opened %q, %v", got, err)
				}
				mu.Lock()
				salts[[headBytes]byte(sealed)]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	most := 0
	for _, n := range salts {
		most = max(most, n)
	}
	if len(salts) < 2 || most > 10 {
		t.Errorf("20 texts, 10 a session: salts were used %v times", salts)
	}
}

func TestLookup(t *testing.T) {
	key := NewLookupKey()
	l, again, other := NewLookup(key), NewLookup(key), NewLookup(NewLookupKey())
	sum := l.Sum("person", "jane@example.com")
	if len(sum) != LookupBytes || !bytes.Equal(sum, again.Sum("person", "jane@example.com")) {
		t.Errorf("Sum = %x, again %x", sum, again.Sum("person", "jane@example.com"))
	}
	for _, different := range [][]byte{
		l.Sum("event", "jane@example.com"), l.Sum("personjane@example.com"), l.Sum("perso", "njane@example.com"), other.Sum("person", "jane@example.com"),
	} {
		if bytes.Equal(sum, different) {
			t.Errorf("two texts have the sum %x", sum)
		}
	}
}

func FuzzOpen(f *testing.F) {
	box := mustRing(f, true, mustKey(f, 1)).Box("log")
	f.Add([]byte("plain"))
	f.Add(box.Seal(nil, []byte("text"), Name{Kind: 'r'}))
	f.Fuzz(func(t *testing.T, sealed []byte) {
		if _, err := box.Open(nil, sealed, Name{Kind: 'q'}); err == nil {
			t.Errorf("opened %q", sealed)
		}
	})
}
