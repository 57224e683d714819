// Package xen drives Xen's toolstack `xl` and reads its formats.
package xen
