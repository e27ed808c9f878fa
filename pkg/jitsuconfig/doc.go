// Package jitsuconfig makes a configuration of the router of one of Jitsu Classic, and tells what it could not carry over and what means something
// else here.
//
//	eventnative.yaml ──▶ tree ──▶ keys dropped, moved, rewritten ──▶ router.yaml
//	                                            └──▶ notes, each with its line
//
// It edits the file's own tree, so that comments, order and placeholders stay. Two rules decide where there is a choice. What Jitsu ignored, the result
// does not have. And nothing is delivered that Jitsu would not have delivered: a destination whose scripts or mappings can not be carried over is staged.
package jitsuconfig
