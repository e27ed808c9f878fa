package enrich

import (
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

// TestDamagedDatabase: bytes that went wrong on the disk make places unknown or wrong, and end nothing.
func TestDamagedDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "City.mmdb")
	writeDatabase(t, path, "GeoLite2-City", cities())
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	opened := 0
	for range 500 {
		data := append([]byte(nil), whole...)
		for range 1 + random.IntN(8) {
			data[random.IntN(len(data))] ^= byte(1 + random.IntN(255))
		}
		if random.IntN(4) == 0 {
			data = data[:random.IntN(len(data))]
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		g, err := OpenGeo(path, nil)
		_ = CheckGeo(path)
		if err != nil {
			continue
		}
		opened++
		for _, addr := range []string{"81.2.69.142", "2001:db8::1", "10.9.1.1", "::ffff:81.2.69.1", "255.255.255.255", "fe80::1%eth0"} {
			g.Location(netip.MustParseAddr(addr))
			g.Country(netip.MustParseAddr(addr))
		}
	}
	if opened < 5 {
		t.Errorf("only %d damaged databases were opened", opened)
	}
}
