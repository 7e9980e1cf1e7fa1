"""Where engines are compiled and measured."""
