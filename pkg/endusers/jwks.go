package endusers

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// keySet is what was read of a URL. It is never changed.
type keySet struct {
	keys    []key
	skipped []string // why others are not used
}

// all are the keys of a set, none of a nil one.
func (s *keySet) all() []key {
	if s == nil {
		return nil
	}
	return s.keys
}

// of are the keys of an id; all for "": the token names none.
func (s *keySet) of(id string) []key {
	if id == "" {
		return s.all()
	}
	var of []key
	for _, k := range s.all() {
		if k.id == id {
			of = append(of, k)
		}
	}
	return of
}

// jwk is a key as RFC 7517 writes it. Private parts are only looked at for being there.
type jwk struct {
	KeyType   string          `json:"kty"`
	Use       string          `json:"use"`
	Ops       []string        `json:"key_ops"`
	Algorithm string          `json:"alg"`
	ID        string          `json:"kid"`
	N         string          `json:"n"`
	E         string          `json:"e"`
	Curve     string          `json:"crv"`
	X         string          `json:"x"`
	Y         string          `json:"y"`
	D         json.RawMessage `json:"d"`
	K         json.RawMessage `json:"k"`
}

// parseSet reads a JSON Web Key Set. Keys that can not be used are left out: a set may hold others, for other uses.
func parseSet(data []byte) (*keySet, error) {
	var set struct {
		Keys *[]json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil || set.Keys == nil {
		return nil, errors.New("what stands there is no JSON Web Key Set: an object with a list of keys")
	}
	if len(*set.Keys) > maxKeys {
		return nil, fmt.Errorf("there are %d keys, at most %d are taken", len(*set.Keys), maxKeys)
	}
	s := &keySet{}
	for i, raw := range *set.Keys {
		var j jwk
		var k key
		err := errors.New("is no key")
		if json.Unmarshal(raw, &j) == nil {
			k, err = j.key()
		}
		if err != nil {
			s.skipped = append(s.skipped, fmt.Sprintf("key %d %v", i+1, err))
			continue
		}
		s.keys = append(s.keys, k)
	}
	return s, nil
}

// key makes a key that can be used; the error says why it is none, as the end of a sentence.
func (j *jwk) key() (key, error) {
	switch {
	case len(j.D) > 0 || len(j.K) > 0:
		return key{}, errors.New("has private parts, and everybody may read them: it is not used")
	case j.Use != "" && j.Use != "sig", len(j.Ops) > 0 && !slices.Contains(j.Ops, "verify"):
		return key{}, errors.New("is not for signatures")
	case len(j.ID) > maxKeyID:
		return key{}, fmt.Errorf("has an id (kid) of more than %d bytes", maxKeyID)
	}
	public, err := j.public()
	if err != nil {
		return key{}, err
	}
	k, err := newKey(public)
	if err == nil && j.Algorithm != "" && j.Algorithm != k.alg {
		err = errors.New("is for an algorithm that is not taken")
	}
	k.id = j.ID
	return k, err
}

var errDamaged = errors.New("is damaged")

func (j *jwk) public() (any, error) {
	switch j.KeyType {
	case "RSA":
		n, err := base64.RawURLEncoding.DecodeString(j.N)
		e, err2 := base64.RawURLEncoding.DecodeString(j.E)
		if err != nil || err2 != nil || len(e) == 0 || len(e) > 4 || len(n) > maxRSABits/8+1 {
			return nil, errDamaged
		}
		exponent := 0
		for _, b := range e {
			exponent = exponent<<8 | int(b)
		}
		if exponent > 1<<31-1 {
			return nil, errDamaged
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: exponent}, nil
	case "EC":
		curve := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[j.Curve]
		if curve == nil {
			return nil, errors.New("is on another curve than P-256, P-384 and P-521")
		}
		size := (curve.Params().BitSize + 7) / 8
		x, err := base64.RawURLEncoding.DecodeString(j.X)
		y, err2 := base64.RawURLEncoding.DecodeString(j.Y)
		if err != nil || err2 != nil || len(x) != size || len(y) != size {
			return nil, errDamaged
		}
		public, err := ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, x, y))
		if err != nil { // a point that is not on the curve
			return nil, errDamaged
		}
		return public, nil
	case "OKP":
		x, err := base64.RawURLEncoding.DecodeString(j.X)
		if j.Curve != "Ed25519" {
			return nil, errors.New("is on another curve than Ed25519")
		}
		if err != nil || len(x) != ed25519.PublicKeySize {
			return nil, errDamaged
		}
		return ed25519.PublicKey(x), nil
	}
	return nil, errors.New("is of another kind than RSA, EC and OKP")
}
