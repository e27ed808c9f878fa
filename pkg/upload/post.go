package upload

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// answer is what the router says of a piece.
type answer struct {
	accepted, rejected int64
	next               int64 // the line to go on with; 0: it does not say
	errors             []BadLine
	retryAfter         time.Duration
}

const maxAnswerBytes = 1 << 20

// post sends a piece once. An error that is no *RejectedError may go away.
func (s *sender) post(ctx context.Context, p piece) (a answer, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	req, err := s.request(ctx, p)
	if err != nil {
		return a, err
	}
	resp, err := s.o.Client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the rest of its text is long, and the address is known
		}
		return a, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return a, fmt.Errorf("reading the answer: %w", err)
	}
	var report struct {
		Status, Message, Error string
		Accepted, Rejected     int64
		NextLine               int64 `json:"next_line"`
		Errors                 []BadLine
	}
	notOurs := json.Unmarshal(body, &report) != nil || report.Status != "ok" && report.Message == ""
	a = answer{accepted: report.Accepted, rejected: report.Rejected, next: report.NextLine, errors: report.Errors}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
		a.retryAfter = min(time.Duration(min(seconds, 1<<30))*time.Second, s.o.MaxWait) // a greater number would not fit
	}
	text := strings.TrimSuffix(report.Message+": "+report.Error, ": ")
	switch {
	case notOurs && resp.StatusCode < 500 && resp.StatusCode != http.StatusTooManyRequests:
		return a, &RejectedError{Status: resp.StatusCode, Message: fmt.Sprintf("%s does not answer as a router does: %.100q", s.o.URL, body)}
	case notOurs:
		return answer{retryAfter: a.retryAfter}, errors.New(resp.Status)
	case resp.StatusCode == http.StatusOK:
		return a, nil
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusRequestTimeout ||
		strings.HasPrefix(report.Message, "Request body ended"):
		return a, fmt.Errorf("%d: %s", resp.StatusCode, text)
	}
	return a, &RejectedError{Status: resp.StatusCode, Message: text, Lines: report.Errors}
}

// request makes the request of a piece.
func (s *sender) request(ctx context.Context, p piece) (*http.Request, error) {
	query := url.Values{"upload_id": {s.o.ID}, "first_line": {strconv.FormatInt(p.begin.Line, 10)}}
	if s.o.SkipMalformed {
		query.Set("skip_malformed", "true")
	}
	if s.o.Fallback {
		query.Set("fallback", "true")
	}
	body := p.text
	if s.o.Gzip {
		s.body.Reset()
		z := gzip.NewWriter(&s.body)
		_, err := z.Write(body)
		if err = errors.Join(err, z.Close()); err != nil {
			return nil, err // never: it writes to memory
		}
		body = s.body.Bytes()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(s.o.URL, "/")+"/api/v1/events/bulk?"+query.Encode(), bytes.NewReader(body))
	if err != nil {
		return nil, &RejectedError{Message: "the address is no URL"}
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	req.Header.Set("X-Auth-Token", s.o.Token)
	if s.o.Gzip {
		req.Header.Set("Content-Encoding", "gzip")
	}
	return req, nil
}
