"""The workers: arq jobs that publish positions, refresh heartbeats, repair the line and expire the silent."""
