"""`python -m app` is the command `joulekeeper`."""

from app.cli.main import main

if __name__ == "__main__":
    main()
