package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"eventrouter/pkg/config"
)

// Headers of the Standard Webhooks specification, in the spelling of net/http; on the wire their letters mean the same.
const (
	headerID        = "Webhook-Id"
	headerTimestamp = "Webhook-Timestamp"
	headerSignature = "Webhook-Signature"
)

// secretPrefix stands before secrets that are written in base64.
const secretPrefix = "whsec_"

// shortestSecret is how many bytes a secret has at least.
const shortestSecret = 16

// signer signs requests with each of its keys; one without keys signs none.
type signer struct{ keys [][]byte }

// signer reads `secret`.
func (c *checker) signer(secrets []config.Secret) (s signer) {
	c.check(len(secrets) <= maxSecrets, "secret", "holds %d secrets, at most %d are valid at a time", len(secrets), maxSecrets)
	for _, secret := range secrets {
		key := []byte(secret)
		if text, ok := strings.CutPrefix(string(secret), secretPrefix); ok {
			var err error
			if key, err = base64.StdEncoding.DecodeString(text); err != nil {
				c.fail("secret", "what begins with %s goes on in base64, and this does not", secretPrefix)
				continue
			}
		}
		if len(key) < shortestSecret {
			c.fail("secret", "is shorter than %d bytes; make one with: openssl rand -base64 32", shortestSecret)
			continue
		}
		s.keys = append(s.keys, key)
	}
	return s
}

// sign returns the value of the signature header: one signature for each key, over id, time and body.
func (s signer) sign(id string, at time.Time, body []byte) string {
	var b strings.Builder
	for i, key := range s.keys {
		if i > 0 {
			b.WriteByte(' ')
		}
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id + "." + strconv.FormatInt(at.Unix(), 10) + "."))
		mac.Write(body)
		b.WriteString("v1,")
		b.WriteString(base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return b.String()
}
