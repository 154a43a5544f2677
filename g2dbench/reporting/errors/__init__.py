"""The worst errors of a result, as rows and as pictures."""
