package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"sync"
	"time"

	"modernc.org/libc"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"eventrouter/pkg/seal"
)

// conn is one connection to the database with its prepared statements. One goroutine uses it at a time.
//
// It stands on the driver and not on database/sql: the store has one writer and a handful of readers, so a pool, its
// goroutine and its reflection would only cost.
type conn struct {
	c     driver.Conn
	stmts map[string]*stmt // by SQL text

	box    *seal.Box    // nil: there are no keys
	lookup *seal.Lookup // nil: what is looked up stands in plain
	sealed []byte       // reused by sealBlob
}

type stmt struct {
	driver.Stmt
	args []driver.NamedValue // reused from call to call
	row  []driver.Value
}

// poolPages gives SQLite the memory for the pages of its caches in one piece. One by one each takes 8 KiB of its allocator, for the 4 KiB of a page and 300 bytes about it, and is
// given back to the system and fetched again all the time. It is a setting of the process, and takes effect before the first database is opened; where another package was first,
// or for more pages than there are here, as with several stores in a test, all works as without.
var poolPages = sync.OnceFunc(func() {
	tls := libc.NewTLS()
	defer tls.Close()
	pages := libc.Xmalloc(tls, poolSlot*poolSize) // for as long as the process lives
	if pages == 0 {
		return
	}
	pool := libc.NewVaList(pages, int32(poolSlot), int32(poolSize))
	defer libc.Xfree(tls, pool)
	sqlite3.Xsqlite3_config(tls, sqlite3.SQLITE_CONFIG_PAGECACHE, pool)
})

// openConn opens path; mode is SQLite's: rw, ro.
func openConn(path, mode string) (*conn, error) {
	poolPages()
	dsn := (&url.URL{Scheme: "file", Path: path}).String() + "?mode=" + mode
	c, err := new(sqlite.Driver).Open(dsn)
	if err != nil {
		return nil, err
	}
	return &conn{c: c, stmts: make(map[string]*stmt)}, nil
}

func (c *conn) close() error {
	var errs []error
	for _, st := range c.stmts {
		errs = append(errs, st.Close())
	}
	return errors.Join(append(errs, c.c.Close())...)
}

// prepared returns the statement for sql with its arguments bound in st.args. sql must be one of a fixed set of texts,
// since every text stays prepared.
func (c *conn) prepared(sql string, args []any) (*stmt, error) {
	st := c.stmts[sql]
	if st == nil {
		ds, err := c.c.Prepare(sql)
		if err != nil {
			return nil, fmt.Errorf("prepare %.60q: %w", sql, err)
		}
		st = &stmt{Stmt: ds}
		c.stmts[sql] = st
	}
	st.args = st.args[:0]
	for i, a := range args {
		st.args = append(st.args, driver.NamedValue{Ordinal: i + 1, Value: dbValue(a)})
	}
	return st, nil
}

// dbValue converts what the store binds to what the driver takes.
func dbValue(a any) driver.Value {
	switch v := a.(type) {
	case int:
		return int64(v)
	case uint64:
		return int64(v) // kept bit for bit
	case LaneID:
		return int64(v)
	case BlockID:
		return int64(v)
	case CallID:
		return int64(v)
	case time.Duration:
		return v.Milliseconds()
	case time.Time:
		return toMillis(v)
	default:
		return a
	}
}

// exec runs one statement to its end.
func (c *conn) exec(sql string, args ...any) error {
	st, err := c.prepared(sql, args)
	if err != nil {
		return err
	}
	_, err = st.Stmt.(driver.StmtExecContext).ExecContext(context.Background(), st.args)
	clear(st.args) // drop references to blobs
	return err
}

// query calls each with every row, which is valid until each returns; its blobs and strings may be kept.
// each must not run the same statement.
func (c *conn) query(sql string, each func(row []driver.Value) error, args ...any) (err error) {
	st, err := c.prepared(sql, args)
	if err != nil {
		return err
	}
	rows, err := st.Stmt.(driver.StmtQueryContext).QueryContext(context.Background(), st.args)
	clear(st.args)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := rows.Close(); err == nil {
			err = cerr
		}
	}()
	if n := len(rows.Columns()); len(st.row) != n {
		st.row = make([]driver.Value, n)
	}
	for {
		switch err := rows.Next(st.row); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if err := each(st.row); err != nil {
			return err
		}
	}
}

// queryOnce is query for a text that is not one of a fixed set: it does not stay prepared.
func (c *conn) queryOnce(sql string, each func(row []driver.Value) error, args ...any) error {
	err := c.query(sql, each, args...)
	if st := c.stmts[sql]; st != nil {
		delete(c.stmts, sql)
		err = errors.Join(err, st.Close())
	}
	return err
}

// queryInt returns the integer in the first column of the first row, 0 when there is none.
func (c *conn) queryInt(sql string, args ...any) (n int64, err error) {
	err = c.query(sql, func(row []driver.Value) error {
		n = toInt(row[0])
		return nil
	}, args...)
	return n, err
}

// script runs several statements that are not kept.
func (c *conn) script(sql string) error {
	_, err := c.c.(driver.ExecerContext).ExecContext(context.Background(), sql, nil)
	return err
}

// Column values. A value of another type (someone wrote to the database by hand) reads as zero.

func toInt(v driver.Value) int64    { n, _ := v.(int64); return n }
func toBytes(v driver.Value) []byte { b, _ := v.([]byte); return b }
func toString(v driver.Value) string {
	s, _ := v.(string)
	return s
}

// toMillis and toTime keep the zero time as 0.
func toMillis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func toTime(v driver.Value) time.Time {
	if ms := toInt(v); ms != 0 {
		return time.UnixMilli(ms).UTC()
	}
	return time.Time{}
}

// code returns SQLite's primary result code, -1 for an error of another kind.
func code(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return -1
}

func isBusy(err error) bool {
	return code(err) == sqlite3.SQLITE_BUSY || code(err) == sqlite3.SQLITE_LOCKED
}
