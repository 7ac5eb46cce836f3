"""The commands, one module each."""

import warnings

# Pyramid looks up assets with pkg_resources, which says at every start that it is old: no operator can change that.
warnings.filterwarnings("ignore", "pkg_resources is deprecated as an API", UserWarning)
