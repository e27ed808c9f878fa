package enrich

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"
)

// writeDatabase writes a small MaxMind database: network to record.
func writeDatabase(t testing.TB, path, kind string, records map[string]mmdbtype.Map) {
	t.Helper()
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: kind, IncludeReservedNetworks: true})
	if err != nil {
		t.Fatal(err)
	}
	for network, record := range records {
		_, ipnet, err := net.ParseCIDR(network)
		if err != nil {
			t.Fatal(err)
		}
		if err := tree.Insert(ipnet, record); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if _, err := tree.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

type (
	mmap  = mmdbtype.Map
	mtext = mmdbtype.String
)

func inCountry(iso, name string, eu bool) mmap {
	return mmap{"country": mmap{"iso_code": mtext(iso), "names": mmap{"en": mtext(name), "de": mtext("anders")}, "is_in_european_union": mmdbtype.Bool(eu)}}
}

func cities() map[string]mmap {
	ulm := inCountry("DE", "Germany", true)
	ulm["continent"] = mmap{"code": mtext("EU")}
	ulm["city"] = mmap{"names": mmap{"en": mtext("Ulm")}}
	ulm["location"] = mmap{"latitude": mmdbtype.Float64(48.3984), "longitude": mmdbtype.Float64(0), "time_zone": mtext("Europe/Berlin")}
	ulm["postal"] = mmap{"code": mtext("89073")}
	ulm["subdivisions"] = mmdbtype.Slice{mmap{"iso_code": mtext("BW")}}
	return map[string]mmap{"81.2.69.0/24": ulm, "2001:db8::/32": inCountry("US", "United States", false), "10.9.0.0/16": inCountry("GB", "United Kingdom", false)}
}

func TestLocation(t *testing.T) {
	dir := t.TempDir()
	writeDatabase(t, filepath.Join(dir, "City.mmdb"), "GeoLite2-City", cities())
	writeDatabase(t, filepath.Join(dir, "ASN.mmdb"), "GeoLite2-ASN", map[string]mmap{
		"81.2.69.0/24": {"autonomous_system_number": mmdbtype.Uint32(3320), "autonomous_system_organization": mtext("DTAG")},
		"9.9.9.0/24":   {"autonomous_system_number": mmdbtype.Uint32(19281)},
	})
	writeDatabase(t, filepath.Join(dir, "ISP.MMDB"), "GeoIP2-ISP", map[string]mmap{"81.2.69.0/25": {"isp": mtext("Telekom"), "organization": mtext(`T "x"`)}})
	writeDatabase(t, filepath.Join(dir, "Domain.mmdb"), "GeoIP2-Domain", map[string]mmap{"81.2.69.0/25": {"domain": mtext("t-online.de")}})
	if err := os.WriteFile(filepath.Join(dir, "README.txt"), []byte("no database"), 0o600); err != nil {
		t.Fatal(err)
	}
	g, err := OpenGeo(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	f := func(addr, want string) {
		t.Helper()
		if got := g.Location(netip.MustParseAddr(addr)); got != want {
			t.Errorf("location of %s\n got %s\nwant %s", addr, got, want)
		}
	}
	const ulm = `{"continent":"EU","country":"DE","country_name":"Germany","city":"Ulm","latitude":48.3984,"longitude":0,"zip":"89073","region":"BW",` +
		`"autonomous_system_number":3320,"autonomous_system_organization":"DTAG"`
	f("81.2.69.1", ulm+`,"isp":"Telekom","organization":"T \"x\"","domain":"t-online.de"}`)
	f("::ffff:81.2.69.200", ulm+`}`)
	f("9.9.9.9", `{"autonomous_system_number":19281}`)
	f("2001:db8::7", `{"country":"US","country_name":"United States"}`)
	f("8.8.8.8", ``)
	if got := (*Geo)(nil).Location(netip.MustParseAddr("8.8.8.8")); got != "" {
		t.Errorf("without databases: %s", got)
	}
}

func TestCountry(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.mmdb")
	records := cities()
	records["1.1.0.0/16"] = inCountry("FR", "France", false) // of a database that does not know unions
	records["1.2.0.0/16"] = inCountry("RE", "Réunion", true)
	writeDatabase(t, path, "GeoLite2-Country", records)
	g, err := OpenGeo(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	f := func(addr, wantISO string, wantEU bool) {
		t.Helper()
		iso, eu, ok := g.Country(netip.MustParseAddr(addr))
		if iso != wantISO || eu != wantEU || ok != (wantISO != "") {
			t.Errorf("Country(%s) = %q, %v, %v", addr, iso, eu, ok)
		}
	}
	f("81.2.69.1", "DE", true)
	f("2001:db8::1", "US", false)
	f("10.9.1.1", "GB", true)
	f("1.1.1.1", "FR", true)
	f("1.2.1.1", "RE", true)
	f("8.8.8.8", "", false)
	if _, _, ok := g.Country(netip.Addr{}); ok {
		t.Error("an address that is none has a country")
	}
	if _, _, ok := (*Geo)(nil).Country(netip.MustParseAddr("81.2.69.1")); ok {
		t.Error("without databases there is a country")
	}
}

func TestOpenGeoNamesWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	f := func(path string, want ...string) {
		t.Helper()
		_, err := OpenGeo(path, slog.New(slog.DiscardHandler))
		if err == nil {
			t.Fatalf("%s opens", path)
		}
		if check := CheckGeo(path); check == nil || check.Error() != err.Error() {
			t.Errorf("CheckGeo says %v, OpenGeo %v", check, err)
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("error %q lacks %q", err, w)
			}
		}
	}
	f(filepath.Join(dir, "missing.mmdb"), "missing.mmdb", "no such file")
	f(dir, dir, "holds no file *.mmdb")
	broken := filepath.Join(dir, "broken.mmdb")
	if err := os.WriteFile(broken, []byte("not a database"), 0o600); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "other.mmdb")
	writeDatabase(t, other, "ipinfo", map[string]mmap{"8.8.8.0/24": {"country": mtext("US")}})
	f(broken, "broken.mmdb")
	f(dir, "broken.mmdb", "other.mmdb: is not in the form of MaxMind's databases")
}

func TestChangedDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.mmdb")
	write := func(iso string, at int) {
		t.Helper()
		writeDatabase(t, path, "GeoLite2-Country", map[string]mmap{"8.8.8.0/24": inCountry(iso, iso, false)})
		if err := os.Chtimes(path, time.Time{}, time.Unix(int64(at), 0)); err != nil {
			t.Fatal(err)
		}
	}
	write("AA", 1)
	var said bytes.Buffer
	g, err := OpenGeo(path, slog.New(slog.NewTextHandler(&said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	f := func(want string, lines int) {
		t.Helper()
		g.refresh()
		iso, _, _ := g.Country(netip.MustParseAddr("8.8.8.8"))
		if got := strings.Count(said.String(), "\n"); iso != want || got != lines {
			t.Errorf("country %q after %d log lines, want %q after %d:\n%s", iso, got, want, lines, &said)
		}
	}
	f("AA", 0)
	write("BB", 2)
	f("AA", 0) // it may still be copied
	f("BB", 1)
	f("BB", 1)
	if err := os.WriteFile(path, []byte("cut short"), 0o600); err != nil {
		t.Fatal(err)
	}
	f("BB", 1)
	f("BB", 2) // broken, said once
	f("BB", 2)
	os.Remove(path)
	f("BB", 2)
	f("BB", 3) // missing, said once
	f("BB", 3)
	write("CC", 3)
	f("BB", 3)
	f("CC", 4)
}
