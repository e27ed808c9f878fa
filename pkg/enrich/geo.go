package enrich

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/oschwald/maxminddb-golang/v2"
)

// geoInterval is how often the databases' files are looked at. A changed one is read when it has not changed for as long, so that
// one that is being copied is left alone.
const geoInterval = 30 * time.Second

// Geo finds where addresses are, in one or several MaxMind databases. It may be used from many goroutines. A nil Geo and a zero Geo know nothing.
type Geo struct {
	path   string
	logger *slog.Logger

	tables atomic.Pointer[tables]

	// Owned by the goroutine that calls refresh.
	before []stamp // files as the last look saw them
	tried  []stamp // files that were read last, well or not
}

// tables are the databases in use, in the order of their files' ranks.
type tables struct {
	list  []table
	known cache[records, string] // locations
}

// records are the places of an address's records in the first tables, each 0 where there is none: many addresses share them.
type records [4]uintptr

// table is one database, whole in memory: a mapped file that somebody cuts short while it is mapped would end the process.
type table struct {
	stamp
	reader *maxminddb.Reader
}

// stamp tells one state of a file from another.
type stamp struct {
	path     string
	size     int64
	modified int64 // nanoseconds
}

// OpenGeo reads the database at path, or all files *.mmdb in a folder. An error names each file that is missing or broken.
func OpenGeo(path string, logger *slog.Logger) (*Geo, error) {
	stamps, err := stat(path)
	if err != nil {
		return nil, err
	}
	list, err := read(stamps, nil)
	if err != nil {
		return nil, err
	}
	g := &Geo{path: path, logger: logger, before: stamps, tried: stamps}
	g.tables.Store(&tables{list: list})
	return g, nil
}

// CheckGeo returns the error that OpenGeo would, without reading the files whole.
func CheckGeo(path string) error {
	stamps, err := stat(path)
	if err != nil {
		return err
	}
	var errs []error
	for _, s := range stamps {
		reader, err := maxminddb.Open(s.path)
		if err == nil {
			err = errors.Join(fits(reader), reader.Close())
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.path, plain(err)))
		}
	}
	return errors.Join(errs...)
}

// Run takes in files that change, until ctx ends. If a new one is broken, the databases stay as they are.
func (g *Geo) Run(ctx context.Context) error {
	tick := time.NewTicker(geoInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			g.refresh()
		case <-ctx.Done():
			return nil
		}
	}
}

// refresh looks at the files once.
func (g *Geo) refresh() {
	stamps, err := stat(g.path)
	if err != nil {
		// As between the removal of a file and its replacement: said if it lasts, once.
		if g.before == nil && g.tried != nil {
			g.tried = nil
			g.logger.Warn("the geo databases can not be read; the last ones stay in use", "error", err.Error())
		}
		g.before = nil
		return
	}
	settled := slices.Equal(stamps, g.before)
	g.before = stamps
	if !settled || slices.Equal(stamps, g.tried) {
		return
	}
	g.tried = stamps
	list, err := read(stamps, g.tables.Load().list)
	if err != nil {
		g.logger.Warn("a changed geo database is not usable; the last ones stay in use", "error", err.Error())
		return
	}
	g.tables.Store(&tables{list: list})
	for _, t := range list {
		g.logger.Info("geo database is in use", "file", t.path, "type", t.reader.Metadata.DatabaseType, "built", t.reader.Metadata.BuildTime().UTC().Format(time.DateOnly))
	}
}

// stat finds the files at path, in order of their names.
func stat(path string) ([]stamp, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, plain(err))
	}
	if !info.IsDir() {
		return []stamp{{path, info.Size(), info.ModTime().UnixNano()}}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, plain(err))
	}
	var stamps []stamp
	for _, e := range entries {
		if !strings.HasSuffix(strings.ToLower(e.Name()), ".mmdb") {
			continue
		}
		file := filepath.Join(path, e.Name())
		info, err := os.Stat(file) // not e.Info: updates are often symbolic links
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, plain(err))
		}
		stamps = append(stamps, stamp{file, info.Size(), info.ModTime().UnixNano()})
	}
	if len(stamps) == 0 {
		return nil, fmt.Errorf("%s: holds no file *.mmdb", path)
	}
	return stamps, nil
}

// read makes tables of files; those that have not changed it takes from old.
func read(stamps []stamp, old []table) ([]table, error) {
	var errs []error
	tables := make([]table, 0, len(stamps))
	for _, s := range stamps {
		if i := slices.IndexFunc(old, func(t table) bool { return t.stamp == s }); i >= 0 {
			tables = append(tables, old[i])
			continue
		}
		reader, err := readFile(s.path)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.path, plain(err)))
			continue
		}
		tables = append(tables, table{s, reader})
	}
	slices.SortStableFunc(tables, func(a, b table) int { return cmp.Compare(rank(a.reader), rank(b.reader)) })
	return tables, errors.Join(errs...)
}

func readFile(path string) (*maxminddb.Reader, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	reader, err := maxminddb.OpenBytes(data)
	if err != nil {
		return nil, err
	}
	return reader, fits(reader)
}

// plain takes the path from an error of the file system: it stands before it already.
func plain(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// fits reports a database whose first records do not decode: one in another maker's form.
func fits(reader *maxminddb.Reader) error {
	const enough = 16
	n := 0
	for result := range reader.Networks() {
		var p place
		if err := result.Decode(&p); err != nil {
			return fmt.Errorf("is not in the form of MaxMind's databases (type %q): %w", reader.Metadata.DatabaseType, err)
		}
		if n++; n == enough {
			break
		}
	}
	return nil
}

// rank orders databases: what a later one says of an address goes before what an earlier one says.
func rank(reader *maxminddb.Reader) int {
	for i, kind := range [...]string{"Country", "City", "ASN", "ISP", "Domain", "Enterprise"} {
		if strings.Contains(reader.Metadata.DatabaseType, kind) {
			return i + 1
		}
	}
	return 0
}

// find returns what each table has of addr, nil if none has anything, and where: the zero records if that is too much to say.
func (ts *tables) find(addr netip.Addr) (results []maxminddb.Result, at records) {
	addr = addr.Unmap()
	for i, t := range ts.list {
		if addr.Is6() && t.reader.Metadata.IPVersion == 4 {
			continue
		}
		if result := t.reader.Lookup(addr); result.Found() {
			results = append(results, result)
			at[min(i, len(at)-1)] = result.Offset() + 1
		}
	}
	if len(ts.list) > len(at) {
		at = records{}
	}
	return results, at
}

// decode decodes results into p, one over the other. What does not decode was damaged after it was written; other databases may know.
func decode(results []maxminddb.Result, p any) {
	for _, result := range results {
		_ = result.Decode(p)
	}
}

// in returns the databases in use, nil if there are none.
func (g *Geo) in() *tables {
	if g == nil {
		return nil
	}
	return g.tables.Load()
}

// Country returns the ISO code of an address's country, and whether that is a place whose law asks for consent: one of the European Union, or
// the United Kingdom. ok is false when the databases do not know.
func (g *Geo) Country(addr netip.Addr) (iso string, eu, ok bool) {
	var p struct {
		Country country `maxminddb:"country"`
	}
	ts := g.in()
	if ts == nil || !addr.IsValid() {
		return "", false, false
	}
	results, _ := ts.find(addr)
	if decode(results, &p); p.Country.ISO == "" {
		return "", false, false
	}
	return p.Country.ISO, p.Country.EU || strings.Contains(union, " "+p.Country.ISO+" "), true
}

// union is for databases that do not say it themselves, and for the United Kingdom.
const union = " AT BE BG CY CZ DE DK EE ES FI FR GB GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK "
