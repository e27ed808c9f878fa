package ingest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strings"
	"testing"

	"eventrouter/pkg/event"

	gocmp "github.com/google/go-cmp/cmp"
)

const bulkPath = "/api/v1/events/bulk?token=s2s.secret"

// report is the answer to an upload.
type report struct {
	Status, Message, Error string
	Received, Accepted     int64
	Rejected               int64
	NextLine               int64 `json:"next_line"`
	Errors                 []struct {
		Line   int64
		Reason string
	}
	LeftOut int64 `json:"errors_left_out"`
}

func (r report) lines() (lines []int64) {
	for _, e := range r.Errors {
		lines = append(lines, e.Line)
	}
	return lines
}

func readReport(t *testing.T, body string) (r report) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &r); err != nil {
		t.Fatalf("answer %q: %v", body, err)
	}
	return r
}

// uploadOf posts body to the bulk route.
func uploadOf(t *testing.T, base, query string, body []byte, headers ...string) (int, report) {
	t.Helper()
	got := send(t, "POST", base+bulkPath+query, body, headers...)
	return got.status, readReport(t, got.body)
}

// formOf makes a form as curl -F file=@events.ndjson does; pairs are further fields, before the file.
func formOf(t testing.TB, file []byte, encoding string, pairs ...string) (body []byte, contentType string) {
	t.Helper()
	var buf bytes.Buffer
	w := multipart.NewWriter(&buf)
	for i := 0; i < len(pairs); i += 2 {
		if err := w.WriteField(pairs[i], pairs[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	h := textproto.MIMEHeader{"Content-Disposition": {`form-data; name="file"; filename="e.log"`}, "Content-Type": {"application/octet-stream"}}
	if encoding != "" {
		h.Set("Content-Encoding", encoding)
	}
	part, err := w.CreatePart(h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := part.Write(file); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes(), w.FormDataContentType()
}

// textsOf are the stored events' JSON.
func textsOf(evs []event.Event) (texts []string) {
	for _, ev := range evs {
		texts = append(texts, string(ev.JSON))
	}
	return texts
}

// TestBulkForms: the same two events in every form that an upload may have.
func TestBulkForms(t *testing.T) {
	live, bulk := &memoryLog{}, &memoryLog{}
	o := testOptions(live)
	o.BulkLog = bulk
	base := start(t, o)
	want := []string{`{"event_id":"a","n":12345678901234567890}`, `{"event_id":"b","t":"é\n"}`}
	text := strings.Join(want, "\n")
	f := func(name string, body []byte, query string, headers ...string) {
		t.Helper()
		for _, skip := range []string{"", "&skip_malformed=true"} {
			status, r := uploadOf(t, base, query+skip, body, headers...)
			if status != 200 || r.Status != "ok" || r.Received != 2 || r.Accepted != 2 || r.Rejected != 0 || len(r.Errors) != 0 {
				t.Errorf("%s: %d %+v", name, status, r)
			}
			evs := bulk.take(t)
			if diff := gocmp.Diff(want, textsOf(evs)); diff != "" {
				t.Errorf("%s: stored (-want +got):\n%s", name, diff)
			}
			for _, ev := range evs {
				if ev.Class != event.Bulk || ev.Source != "bulk" || ev.APIKey != "key1" || !ev.Server || ev.ID == "" || ev.Received != receipt {
					t.Errorf("%s: %+v", name, ev)
				}
			}
		}
	}
	f("NDJSON", []byte(text+"\n"), "")
	f("no last newline", []byte(text), "")
	f("CRLF and blank lines", []byte("\r\n\n"+strings.ReplaceAll(text, "\n", "\r\n\r\n \t\r\n")+"\r\n\r\n"), "")
	f("byte order mark", []byte("\ufeff"+text), "")
	f("gzip", gzipped(t, text), "", "Content-Encoding", "gzip")
	f("gzip, not declared", gzipped(t, text), "")
	f("not gzip, though declared", []byte(text), "", "Content-Encoding", "gzip")
	f("two gzip members", append(gzipped(t, want[0]+"\n"), gzipped(t, want[1])...), "")
	f("array", []byte("[\n  "+strings.Join(want, " ,\n")+"]\n"), "", "Content-Type", "application/json")
	f("array behind a byte order mark", []byte("\ufeff ["+strings.Join(want, ",")+"]"), "")
	body, kind := formOf(t, []byte(text), "")
	f("form", body, "", "Content-Type", kind)
	f("form, gzip around it", gzipped(t, string(body)), "", "Content-Type", kind, "Content-Encoding", "gzip")
	body, kind = formOf(t, gzipped(t, text), "gzip", "note", "x", "other", "y")
	f("form with other fields, gzip", body, "", "Content-Type", kind)
	body, kind = formOf(t, gzipped(t, text), "")
	f("form, gzip declared for the request as Jitsu has it", body, "", "Content-Type", kind, "Content-Encoding", "gzip")
	f("fallback file", []byte(`{"event":`+want[0]+`,"error":"x","event_id":"zz"}`+"\n"+`{"error":"x","event": `+want[1]+" }"), "&fallback=true")

	if evs := live.take(t); len(evs) > 0 {
		t.Errorf("%d events in the log of live ones", len(evs))
	}
	for _, body := range []string{"", "\n \r\n", "[]", "\ufeff", " [ ] "} {
		if status, r := uploadOf(t, base, "", []byte(body)); status != 200 || r.Received != 0 || len(bulk.take(t)) != 0 {
			t.Errorf("%q: %d %+v", body, status, r)
		}
	}
}

// TestBulkWriteKeys: secrets in the lines are not stored, wherever the chunk's end is.
func TestBulkWriteKeys(t *testing.T) {
	log := &memoryLog{}
	base := start(t, testOptions(log))
	var text strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&text, `{"api_key":"s2s.secret","n":%d,"pad":%q}`+"\n", i, strings.Repeat("x", i%1500))
	}
	if status, r := uploadOf(t, base, "", []byte(text.String())); status != 200 || r.Accepted != 5000 {
		t.Fatalf("%d %+v", status, r)
	}
	for i, ev := range log.take(t) {
		if want := fmt.Sprintf(`{"n":%d,"pad":%q}`, i, strings.Repeat("x", i%1500)); string(ev.JSON) != want {
			t.Fatalf("event %d is %.80s", i, ev.JSON)
		}
	}
}

// badLines are lines that hold no event, and what is said of them.
var badLines = []struct{ text, reason string }{
	{`{"a":}`, "invalid character '}' looking for beginning of value (at byte 6)"},
	{`{"a":1`, "unexpected EOF (at byte 6)"},
	{`nope`, "invalid character 'o' in literal null (expecting 'u')"},
	{`null`, "null, not an object"},
	{`17`, "a number, not an object"},
	{`"x"`, "a string, not an object"},
	{`{"a":1}{"a":2}`, "invalid character '{' after top-level value (at byte 8)"},
	{"{\"a\":\"\xff\"}", "not UTF-8 at byte 6"},
	{`{"a":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + "}", "nesting exceeds limit: 128 (at byte 132)"},
	{`{"a":"` + strings.Repeat("x", 51200) + `"}`, "Event size 51208 exceeds limit: 51200"},
	{`{"a":"` + strings.Repeat("x", 3<<20) + `"}`, "Event size exceeds limit: 51200"},
}

// TestBulkBadLine: a line that holds no event, between two that do.
func TestBulkBadLine(t *testing.T) {
	log := &memoryLog{}
	o := testOptions(log)
	o.Server.MaxBodyBytes = 8 << 20
	base := start(t, o)
	for _, c := range badLines {
		text := []byte("{\"n\":1}\n\n" + c.text + "\r\n{\"n\":2}")

		status, r := uploadOf(t, base, "", text)
		if status != 400 || !strings.HasPrefix(r.Message, "failed to parse JSON payload: line 3: "+c.reason) || r.Accepted != 0 || r.NextLine != 1 {
			t.Errorf("%.20s: %d %+v", c.text, status, r)
		}
		if diff := gocmp.Diff([]int64{3}, r.lines()); diff != "" || len(log.take(t)) > 0 {
			t.Errorf("%.20s: lines %s; or something is stored", c.text, diff)
		}

		status, r = uploadOf(t, base, "&skip_malformed=true&first_line=11", text)
		if status != 200 || r.Received != 3 || r.Accepted != 2 || r.Rejected != 1 || len(r.Errors) != 1 || r.Errors[0].Line != 13 || r.Errors[0].Reason != c.reason {
			t.Errorf("skipping %.20s: %d %+v", c.text, status, r)
		}
		if diff := gocmp.Diff([]string{`{"n":1}`, `{"n":2}`}, textsOf(log.take(t))); diff != "" {
			t.Errorf("skipping %.20s: stored (-want +got):\n%s", c.text, diff)
		}
	}
}

// TestBulkBadElement: the same in an array, where only what keeps its brackets can be passed over.
func TestBulkBadElement(t *testing.T) {
	log := &memoryLog{}
	base := start(t, testOptions(log))
	for _, c := range badLines {
		if c.text == `{"a":1` || strings.Contains(c.text, "}{") {
			continue
		}
		status, r := uploadOf(t, base, "&skip_malformed=true", []byte("[{\"n\":1}, "+c.text+" ,{\"n\":2}]"))
		if status != 200 || r.Accepted != 2 || r.Rejected != 1 || len(r.Errors) != 1 || r.Errors[0].Line != 2 || r.Errors[0].Reason != c.reason {
			t.Errorf("%.20s: %d %+v", c.text, status, r)
		}
		if diff := gocmp.Diff([]string{`{"n":1}`, `{"n":2}`}, textsOf(log.take(t))); diff != "" {
			t.Errorf("%.20s: stored (-want +got):\n%s", c.text, diff)
		}
	}
	for text, want := range map[string]string{
		`[{"n":1},{"n":2`:      "the array does not end: unexpected EOF",
		`[{"n":1}`:             "the array does not end: unexpected EOF",
		`[{"n":1},]`:           `an element must begin here, not ']'`,
		`[{"n":1},,{"n":3}]`:   `an element must begin here, not ','`,
		`[{"n":1}{"n":2}]`:     `invalid character '{' after the element before`,
		`[{"n":1}]` + "\n{}":   `invalid character '{' after the array`,
		`[{"n":1},{"n":2}] ,]`: `invalid character ',' after the array`,
	} {
		status, r := uploadOf(t, base, "&skip_malformed=true", []byte(text))
		if status != 400 || len(r.Errors) != 1 || r.Errors[0].Reason != want || r.Accepted != int64(len(log.take(t))) || r.NextLine != cmp.Or(r.Accepted, 1)+1 {
			t.Errorf("%s: %d %+v, want %s", text, status, r, want)
		}
	}
}

// TestBulkFallbackLines: what Jitsu could not read, or what is no line of a fallback file.
func TestBulkFallbackLines(t *testing.T) {
	log := &memoryLog{}
	base := start(t, testOptions(log))
	text := `{"event":{"a":1,"api_key":"k"},"error":"e","event_id":"wrapper-id"}
{"malformed_event":"{oh","error":"e"}
{"event":{"eventn_ctx":{"event_id":"own"}},"event_id":"wrapper-id"}
{"event":"text"}
{"a":1}
{"event":{"x":"` + strings.Repeat("x", 51200) + `"}}`
	status, r := uploadOf(t, base, "&fallback=true&skip_malformed=true", []byte(text))
	if status != 200 || r.Accepted != 2 || !gocmp.Equal(r.lines(), []int64{2, 4, 5, 6}) {
		t.Errorf("%d %+v", status, r)
	}
	var got []string
	for _, ev := range log.take(t) {
		got = append(got, ev.ID+" "+string(ev.JSON))
	}
	if diff := gocmp.Diff([]string{`wrapper-id {"a":1}`, `own {"eventn_ctx":{"event_id":"own"}}`}, got); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}

// TestBulkManyBadLines: the list is bounded, and says what it leaves out; a small file is told all of them at once.
func TestBulkManyBadLines(t *testing.T) {
	log := &memoryLog{}
	base := start(t, testOptions(log))
	text := []byte(strings.Repeat("{}\nx\n", 1500))
	for query, want := range map[string]int{"": 400, "&skip_malformed=1": 200} {
		status, r := uploadOf(t, base, query, text)
		if status != want || r.Received != 3000 || r.Rejected != 1500 || len(r.Errors) != 100 || r.LeftOut != 1400 || int64(len(log.take(t))) != r.Accepted {
			t.Errorf("%q: %d, %d listed, %+v", query, status, len(r.Errors), r)
		}
	}
}

// TestBulkLargeWithBadLine: what is too large to be checked first is stored up to the bad line, and goes on there.
func TestBulkLargeWithBadLine(t *testing.T) {
	log := &memoryLog{}
	base := start(t, testOptions(log)) // max_body_size is 1 MiB
	var text bytes.Buffer
	const bad = 3210
	for i := 1; i <= 5000; i++ {
		if i == bad {
			text.WriteString("oops\n")
			continue
		}
		fmt.Fprintf(&text, `{"event_id":"%d","pad":%q}`+"\n", i, strings.Repeat("x", 500))
	}
	status, r := uploadOf(t, base, "", text.Bytes())
	if status != 400 || r.NextLine != bad || r.Accepted != bad-1 || r.Rejected != 1 || !gocmp.Equal(r.lines(), []int64{bad}) {
		t.Fatalf("%d %+v", status, r)
	}
	lines := bytes.SplitAfter(text.Bytes(), []byte("\n"))
	rest := bytes.Join(lines[r.NextLine:], nil) // mended by leaving the line out
	if status, r = uploadOf(t, base, fmt.Sprintf("&first_line=%d", bad+1), rest); status != 200 || r.NextLine != 5001 {
		t.Fatalf("%d %+v", status, r)
	}
	evs := log.take(t)
	if len(evs) != 4999 || evs[bad-2].ID != fmt.Sprint(bad-1) || evs[bad-1].ID != fmt.Sprint(bad+1) {
		t.Errorf("%d events stored", len(evs))
	}
}

// TestBulkIDs: what an event without an id is known by.
func TestBulkIDs(t *testing.T) {
	log := &memoryLog{}
	base := start(t, testOptions(log))
	ids := func(query, text string) (ids []string) {
		if status, r := uploadOf(t, base, query, []byte(text)); status != 200 {
			t.Fatalf("%d %+v", status, r)
		}
		for _, ev := range log.take(t) {
			ids = append(ids, ev.ID)
		}
		return ids
	}
	const text = "{\"a\":1}\n{\"a\":1}\n{\"event_id\":\"own\"}\n{\"utc_time\":\"2026-01-01T00:00:00Z\"}\n{\"utc_time\":\"2026-01-01T00:00:00Z\"}"
	first := ids("&upload_id=u1", text)
	if again := ids("&upload_id=u1", text); !gocmp.Equal(first, again) {
		t.Errorf("the same upload has other ids: %v, then %v", first, again)
	}
	if tail := ids("&upload_id=u1&first_line=4", text[strings.Index(text, `{"utc`):]); !gocmp.Equal(first[3:], tail) {
		t.Errorf("the rest of an upload has other ids: %v, then %v", first, tail)
	}
	if first[0] == first[1] || first[3] == first[4] || first[2] != "own" || first[0][14] != '8' {
		t.Errorf("ids by line: %v", first)
	}
	for _, other := range []string{"&upload_id=u2", "&upload_id=u1&first_line=9"} {
		if got := ids(other, text); got[0] == first[0] || got[2] != "own" {
			t.Errorf("%s has the ids of another upload: %v", other, got)
		}
	}
	plain, again := ids("", text), ids("", text)
	if plain[0] == plain[1] || plain[0] == again[0] || plain[3] != plain[4] || plain[3] != again[3] {
		t.Errorf("without an upload id: %v, then %v", plain, again)
	}
}

// TestBulkRefusals: what is refused before a line is read.
func TestBulkRefusals(t *testing.T) {
	log := &memoryLog{}
	o := testOptions(log)
	o.Server.MaxBulkBytes = 2 << 20
	base := start(t, o)
	f := func(want, path, body string, headers ...string) {
		t.Helper()
		got := send(t, "POST", base+path, []byte(body), headers...)
		if text := fmt.Sprintf("%d %s", got.status, message2(got.body)); !strings.HasPrefix(text, want) {
			t.Errorf("%s %.40q: got %s, want %s", path, body, text, want)
		}
		if strings.Contains(got.body, "s2s.") {
			t.Errorf("%s: the answer holds a secret: %s", path, got.body)
		}
		if again := send(t, "GET", base+"/ping", nil); again.status != 200 {
			t.Errorf("ping after %s: %d", path, again.status)
		}
	}
	const ok = `{"a":1}`
	f("401 The token is not found", "/api/v1/events/bulk", ok)
	f("401 The token is not found", "/api/v1/events/bulk?token=s2s.wrong", ok)
	f("401 The token isn't a server token. Please use an s2s integration token", "/api/v1/events/bulk?token=js.client", ok)
	f("422 No destination is configured for this token (or only staged ones)", "/api/v1/events/bulk?token=s2s.nodest", ok)
	f("401 The token is not found", "/api/v1/events/bulk", strings.Repeat(" ", 1<<20))
	f("400 Wrong parameter", bulkPath+"&first_line=0", ok)
	f("400 Wrong parameter", bulkPath+"&first_line=x", ok)
	f("400 Wrong parameter", bulkPath+"&upload_id="+strings.Repeat("x", 201), ok)
	f("400 failed to read payload from input file: only 'gzip' encoding is supported", bulkPath, ok, "Content-Encoding", "zstd")
	f("400 failed to read payload from input file: gzip: unexpected EOF", bulkPath, string(gzipped(t, ok))[:25])
	f("400 failed to read payload from input file: gzip: ", bulkPath, "\x1f\x8bnonsense...")
	f("400 failed to read 'file' form parameter: no multipart boundary", bulkPath, ok, "Content-Type", "multipart/form-data")
	f("400 failed to read 'file' form parameter: ", bulkPath, ok, "Content-Type", "multipart/form-data; boundary=XX")
	form := "--XX\r\nContent-Disposition: form-data; name=\"%s\"\r\n\r\n%s\r\n"
	kind := []string{"Content-Type", "multipart/form-data; boundary=XX"}
	file := fmt.Sprintf(form, "file", ok)
	f("400 failed to read 'file' form parameter: http: no such file", bulkPath, fmt.Sprintf(form, "data", ok)+"--XX--\r\n", kind...)
	f("400 failed to read 'file' form parameter: multipart: unexpected EOF", bulkPath, file, kind...)
	f("400 failed to read 'file' form parameter: the form has more than one", bulkPath, file+file+"--XX--\r\n", kind...)
	f("400 failed to read 'file' form parameter: other fields exceed limit: 65536", bulkPath, fmt.Sprintf(form, "data", strings.Repeat("x", 70000))+file+"--XX--\r\n", kind...)
	f("413 Upload exceeds limit: 2097152", bulkPath, string(gzipped(t, strings.Repeat(" ", 2<<20)+"x")))
	f("404 404 page not found", "/api/v1/events/bulkx?token=s2s.secret", ok)
	if evs := log.take(t); len(evs) > 0 {
		t.Errorf("%d events stored", len(evs))
	}
	if got := send(t, "GET", base+bulkPath, nil); got.status != 404 {
		t.Errorf("GET: %d", got.status)
	}
}

// message2 returns the message of an error, any other body as it is.
func message2(body string) string {
	var envelope struct{ Message string }
	if json.Unmarshal([]byte(body), &envelope) == nil && envelope.Message != "" {
		return envelope.Message
	}
	return body
}

// TestBulkClients: as clients send files: in chunks of unknown number, and after asking whether they may.
func TestBulkClients(t *testing.T) {
	log := &memoryLog{}
	base := start(t, testOptions(log))
	var text bytes.Buffer
	for i := range 20_000 {
		fmt.Fprintf(&text, `{"event_id":"%d","pad":%q}`+"\n", i, strings.Repeat("x", 100))
	}
	form, kind := formOf(t, text.Bytes(), "")
	f := func(name string, body io.Reader, header ...string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "POST", base+bulkPath, struct{ io.Reader }{body}) // of unknown length
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer resp.Body.Close()
		answer, _ := io.ReadAll(resp.Body)
		r := readReport(t, string(answer))
		evs := log.take(t)
		if resp.StatusCode != 200 || r.Accepted != 20_000 || len(evs) != 20_000 || evs[19_999].ID != "19999" {
			t.Errorf("%s: %d %+v, %d stored", name, resp.StatusCode, r, len(evs))
		}
	}
	f("chunks", bytes.NewReader(text.Bytes()))
	f("asks first", bytes.NewReader(text.Bytes()), "Expect", "100-continue")
	f("a form in chunks", bytes.NewReader(form), "Content-Type", kind)
	f("gzip in chunks", bytes.NewReader(gzipped(t, text.String())), "Content-Encoding", "gzip")
}
