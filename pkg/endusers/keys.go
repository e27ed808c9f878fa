package endusers

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"eventrouter/pkg/config"
)

// algorithms are those that are taken.
var algorithms = []string{"RS256", "ES256", "ES384", "ES512", "EdDSA"}

const (
	// minRSABits and maxRSABits bound RSA keys: shorter ones can be broken, and longer ones let anybody spend our time.
	minRSABits = 2048
	maxRSABits = 8192
	// maxKeys bounds the keys of an app in the file, and those at a URL: a signature may be tried on all of them.
	maxKeys = 32
)

// key is a public key with the one algorithm that it is good for.
type key struct {
	id     string // kid; "": of the file
	alg    string
	public any
}

// newKey binds a public key to its algorithm. Its error is the end of a sentence.
func newKey(public any) (key, error) {
	switch k := public.(type) {
	case *rsa.PublicKey:
		switch bits := k.N.BitLen(); {
		case bits < minRSABits:
			return key{}, fmt.Errorf("is an RSA key of %d bits: at least %d are needed", bits, minRSABits)
		case bits > maxRSABits:
			return key{}, fmt.Errorf("is an RSA key of %d bits: at most %d are taken", bits, maxRSABits)
		case k.E < 3 || k.E%2 == 0:
			return key{}, errors.New("is an RSA key with an exponent that none has")
		}
		return key{alg: "RS256", public: k}, nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return key{alg: "ES256", public: k}, nil
		case elliptic.P384():
			return key{alg: "ES384", public: k}, nil
		case elliptic.P521():
			return key{alg: "ES512", public: k}, nil
		}
		return key{}, errors.New("is on another curve than P-256, P-384 and P-521")
	case ed25519.PublicKey:
		return key{alg: "EdDSA", public: k}, nil
	}
	return key{}, errors.New("is of another kind than RSA, P-256, P-384, P-521 and Ed25519")
}

// fixedKeys reads the keys in the file, and in the files that it names.
func fixedKeys(t config.EndUserTokens) (keys []key, problems config.Problems) {
	for _, text := range t.Keys {
		more, err := parsePEM([]byte(text.Text))
		if err != nil {
			problems = append(problems, config.Problem{Pos: text.Pos, Path: text.Path, Text: err.Error()})
		}
		keys = append(keys, more...)
	}
	if len(keys) > maxKeys {
		last := t.Keys[len(t.Keys)-1]
		problems = append(problems, config.Problem{Pos: last.Pos, Path: last.Path, Text: fmt.Sprintf("there are %d keys: at most %d are taken", len(keys), maxKeys)})
	}
	return keys, problems
}

// parsePEM reads the public keys in a text: one or several. Its error never shows the text, which may be a private key.
func parsePEM(text []byte) (keys []key, err error) {
	for n := 1; ; n++ {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		text = rest
		k, err := parseBlock(block)
		if err != nil {
			if len(bytes.TrimSpace(rest)) > 0 || n > 1 {
				return nil, fmt.Errorf("key %d %w", n, err)
			}
			return nil, err
		}
		keys = append(keys, k)
	}
	switch {
	case strings.Contains(string(text), "PRIVATE KEY"):
		return nil, errPrivate
	case len(keys) == 0:
		return nil, errors.New("is no key in PEM: it begins with -----BEGIN PUBLIC KEY-----, on a line of its own")
	case len(bytes.TrimSpace(text)) > 0:
		return nil, errors.New("holds something behind its last key")
	}
	return keys, nil
}

var errPrivate = errors.New("is a private key, which belongs to who signs tokens and to nobody else: write the public key that belongs to it, and replace the pair if others may have read this file")

func parseBlock(block *pem.Block) (key, error) {
	var public any
	var err error
	switch {
	case strings.HasSuffix(block.Type, "PRIVATE KEY"):
		return key{}, errPrivate
	case block.Type == "PUBLIC KEY":
		public, err = x509.ParsePKIXPublicKey(block.Bytes)
	case block.Type == "RSA PUBLIC KEY":
		public, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case block.Type == "CERTIFICATE":
		return key{}, errors.New("is a certificate: write its public key, which openssl x509 -pubkey -noout prints")
	default:
		return key{}, errors.New("is something else than a public key")
	}
	if err != nil {
		return key{}, errors.New("is damaged, or a key of a kind that is not known here")
	}
	return newKey(public)
}
