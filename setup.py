"""Describe pyrimage to the packaging tools; pyproject.toml only configures the others."""

import re
from pathlib import Path

from setuptools import find_namespace_packages, setup

HERE = Path(__file__).parent


def version() -> str:
    """Read the version from the package without importing it: its dependencies are not there yet."""
    match = re.search(r'^__version__ = "(.+)"$', (HERE / "pyrimage/__init__.py").read_text(encoding="utf-8"), re.M)
    if match is None:
        raise RuntimeError("pyrimage/__init__.py states no __version__")
    return match[1]


POSTGRESQL = ["psycopg[binary]>=3.2"]
MARIADB = ["PyMySQL>=1.1.1"]
KEYSTONE = ["keystoneauth1>=5.8", "keystonemiddleware>=13.0.1", "python-memcached>=1.62", "PyYAML>=6.0"]

setup(
    name="pyrimage",
    version=version(),
    description="An image service: register, upload, find and download disk images over HTTP",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="pyrimage contributors",
    license_expression="MIT",
    license_files=["LICENSE"],
    keywords="image disk service pyramid glance",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Framework :: Pyramid",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Internet :: WWW/HTTP :: WSGI :: Application",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    # Namespace packages too: the migrations' folders hold no __init__.py.
    packages=find_namespace_packages(
        include=["pyrimage", "pyrimage.*"], exclude=["*.__pycache__", "*.__pycache__.*", "pyrimage.scripts.service*"]
    ),
    package_data={
        "pyrimage": ["py.typed"],
        "pyrimage.alembic": ["script.py.mako"],
        "pyrimage.server": ["README.md"],
        "pyrimage.scripts": ["development.ini", "production.ini", "service/**"],
    },
    include_package_data=False,
    zip_safe=False,
    install_requires=[
        "alembic>=1.13",
        "bcrypt>=5.0",
        "boto3>=1.35",
        "colander>=2.0",
        "libpass>=1.9.4",  # it is imported as passlib
        "PasteDeploy>=3.1",
        "plaster>=1.1",
        "plaster_pastedeploy>=1.0",
        "psutil>=6.0",
        "pyramid>=2.0.2",
        "pyramid_tm>=2.6",
        "python-daemon>=3.1",
        "python-swiftclient>=4.6",
        "SQLAlchemy>=2.1",
        "transaction>=5.0",
        "urllib3>=2.3",
        "waitress>=3.0.2,<3.1",  # our server leans on its internals
        "WebOb>=1.8.11",
        "zope.interface>=7.0",
        "zope.sqlalchemy>=4.0",  # a native namespace package: older ones do not go with today's zope.interface
    ],
    extras_require={
        "postgresql": POSTGRESQL,
        "mariadb": MARIADB,
        "keystone": KEYSTONE,
        "test": [
            *POSTGRESQL,
            *MARIADB,
            *KEYSTONE,
            "build>=1.2",
            "hypothesis>=6.100",
            "pytest>=8.3",
            "pytest-cov>=6.0",
            "pytest-xdist>=3.6",
            "WebTest>=3.0.2",
        ],
        "lint": ["check-manifest>=0.50", "import-linter>=2.17", "mypy>=1.13", "ruff>=0.9"],
        "docs": ["myst-parser>=4.0", "Sphinx>=8.1"],
    },
    entry_points={
        "paste.app_factory": ["main = pyrimage.app:main"],
        "paste.server_factory": ["server = pyrimage.server.factory:server_factory"],
        "console_scripts": [
            "pyrimage-api = pyrimage.scripts.serve:api",
            "pyrimage-control = pyrimage.scripts.control:main",
            "pyrimage-manage = pyrimage.scripts.manage:main",
            "pyrimage-registry = pyrimage.scripts.serve:registry",
        ],
    },
)
