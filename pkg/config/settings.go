package config

import "gopkg.in/yaml.v3"

// Settings is a part of the file that a component decodes itself.
type Settings struct {
	path string
	file string
	node *yaml.Node
}
